// Logout tokens of npm's oidc-provider for clients with encryption or a shared secret, sent without
// a sign-in: its own `client.backchannelLogout` makes and posts each.
//
// JSON lines. Ends when stdin ends.
//
//   out  {"issuer": URL}
//   in   {"register": {client metadata}, "sub": ..., "sid": ...}
//   out  {"error": null | message}              what came of the logout token

import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { Provider } from 'oidc-provider';

console.info = console.error; // stdout is for the tests
const write = (report) => process.stdout.write(`${JSON.stringify(report)}\n`);

const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
const key = { ...privateKey.export({ format: 'jwk' }), kid: 'rs256', alg: 'RS256', use: 'sig' };

const server = createServer().listen(0, '127.0.0.1');
await once(server, 'listening');
const issuer = `http://127.0.0.1:${server.address().port}`;

const provider = new Provider(issuer, {
  jwks: { keys: [key] },
  cookies: { keys: [randomBytes(32).toString('hex')] },
  features: {
    backchannelLogout: { enabled: true },
    devInteractions: { enabled: false },
    encryption: { enabled: true },
  },
  enabledJWA: {
    idTokenSigningAlgValues: ['RS256', 'HS256'],
    idTokenEncryptionAlgValues: ['RSA-OAEP-256', 'ECDH-ES'],
    idTokenEncryptionEncValues: ['A128CBC-HS256', 'A256GCM'],
  },
  // Its dispatcher refuses loopback addresses, where the receiver under test listens.
  fetch: (url, { dispatcher, ...rest }) => globalThis.fetch(url, rest),
});
server.on('request', provider.callback());
write({ issuer });

for await (const line of createInterface({ input: process.stdin })) {
  const { register, sub, sid } = JSON.parse(line);
  try {
    await provider.Client.adapter.upsert(register.client_id, register);
    const client = await provider.Client.find(register.client_id);
    await client.backchannelLogout(sub, sid);
    write({ error: null });
  } catch (error) {
    write({ error: error.error_description ?? error.message });
  }
}
process.exit();
