// A real OpenID provider for the tests: better-auth at a free loopback port, as it is by default.
//
// JSON lines, one object each. Ends when stdin ends, so it never outlives the tests.
//
//   out  {"issuer": URL}                                once, when it serves
//   in   {"register": {a row of oauthClient}}           out  {"registered": client id}
//
// What the library says of itself goes to stderr.

import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { oauthProvider } from '@better-auth/oauth-provider';
import { betterAuth } from 'better-auth';
import { memoryAdapter } from 'better-auth/adapters/memory';
import { toNodeHandler } from 'better-auth/node';
import { jwt } from 'better-auth/plugins';

for (const level of ['log', 'info', 'warn', 'debug']) console[level] = console.error; // stdout is for the tests
const write = (report) => process.stdout.write(`${JSON.stringify(report)}\n`);

const server = createServer().listen(0, '127.0.0.1');
await once(server, 'listening');
const origin = `http://127.0.0.1:${server.address().port}`;

const tables = {};
const auth = betterAuth({
  baseURL: origin,
  secret: randomBytes(32).toString('hex'),
  database: memoryAdapter(tables),
  emailAndPassword: { enabled: true },
  rateLimit: { enabled: false },
  telemetry: { enabled: false },
  plugins: [jwt(), oauthProvider({ loginPage: '/login', consentPage: '/consent' })],
});
const context = await auth.$context;
for (const name of Object.keys(context.tables)) tables[name] = [];
server.on('request', toNodeHandler(auth));
write({ issuer: context.baseURL });

for await (const line of createInterface({ input: process.stdin })) {
  // Registration over HTTP refuses loopback addresses; a row does not.
  const { clientId } = await context.adapter.create({
    model: 'oauthClient',
    data: JSON.parse(line).register,
  });
  write({ registered: clientId });
}
process.exit();
