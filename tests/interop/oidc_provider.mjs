// A real OpenID provider for the tests: npm's oidc-provider at a free loopback port.
//
// JSON lines, one object each. Ends when stdin ends, so it never outlives the tests.
//
//   out  {"issuer": URL}                                once, when it serves
//   in   {"register": {client metadata}}                out  {"registered": client id}
//   in   {"clock": seconds ahead of the machine's}      out  {"clock": the same}
//   out  {"client_id": ..., "error": null | message}    what came of one logout token
//
// What the library says of itself goes to stderr.

import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { Provider } from 'oidc-provider';

console.info = console.error; // stdout is for the tests
const write = (report) => process.stdout.write(`${JSON.stringify(report)}\n`);

const machineClock = Date.now;
let secondsAhead = 0;
Date.now = () => machineClock() + secondsAhead * 1000;

// One key for each algorithm, in one set, each with its own kid.
function signingKey(alg, type, options) {
  const { privateKey } = generateKeyPairSync(type, options);
  return { ...privateKey.export({ format: 'jwk' }), kid: alg.toLowerCase(), alg, use: 'sig' };
}

const keys = [
  signingKey('RS256', 'rsa', { modulusLength: 2048 }),
  signingKey('ES256', 'ec', { namedCurve: 'P-256' }),
  signingKey('EdDSA', 'ed25519'),
];

const server = createServer().listen(0, '127.0.0.1');
await once(server, 'listening');
const issuer = `http://127.0.0.1:${server.address().port}`;

const provider = new Provider(issuer, {
  jwks: { keys },
  cookies: { keys: [randomBytes(32).toString('hex')] },
  features: { backchannelLogout: { enabled: true }, devInteractions: { enabled: true } },
  // Every login name exists; it is the sub.
  findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  // Its dispatcher refuses loopback addresses, where the receiver under test listens.
  fetch: (url, { dispatcher, ...rest }) => globalThis.fetch(url, rest),
});
provider.on('backchannel.success', (ctx, client) => {
  write({ client_id: client.clientId, error: null });
});
provider.on('backchannel.error', (ctx, error, client) => {
  write({ client_id: client.clientId, error: error.message });
});
provider.on('server_error', (ctx, error) => console.error(error));
server.on('request', provider.callback());
write({ issuer });

for await (const line of createInterface({ input: process.stdin })) {
  const { register, clock } = JSON.parse(line);
  if (register) {
    await provider.Client.adapter.upsert(register.client_id, register);
    // Finding it checks its metadata.
    write({ registered: (await provider.Client.find(register.client_id)).clientId });
  } else {
    secondsAhead = clock;
    write({ clock });
  }
}
process.exit();
