// An Express app: users sign in with OpenID Connect, and the provider signs them out.
//
// `node app.mjs` reads ISSUER, CLIENT_ID, CLIENT_SECRET, REDIS_URL, APP (its name in the
// receiver's settings), SESSION_SECRET and PORT from the environment; SESSION_REDIS_URL if
// the sessions are elsewhere, and RESAVE=1 for express-session's `resave`.

import { promisify } from 'node:util';
import { RedisStore } from 'connect-redis';
import express from 'express';
import session from 'express-session';
import * as oidc from 'openid-client';
import { createClient } from 'redis';
import { RevocationUnknown, SessionGuard, remember, remembered } from './guard.mjs';

const { ISSUER, CLIENT_ID, CLIENT_SECRET, REDIS_URL, APP, SESSION_SECRET, PORT } = process.env;
const { SESSION_REDIS_URL = REDIS_URL, RESAVE } = process.env;
const HERE = `http://127.0.0.1:${PORT}`;
const SIGN_IN = '<p><a href="/login">Sign in</a></p>';

// While Redis is down or silent, commands fail at once: users get 503 without a wait.
async function connect(url) {
  // By default the client never reconnects after a socketTimeout.
  const reconnectStrategy = (attempt) => Math.min(50 * attempt, 1000);
  const socket = { connectTimeout: 1000, socketTimeout: 2000, reconnectStrategy };
  const client = createClient({ url, socket, pingInterval: 1000, disableOfflineQueue: true });
  return client.on('error', ({ message }) => console.error(`redis: ${message}`)).connect();
}

// Verify the signature of ID tokens. Without TLS: on this machine only.
const rules = [oidc.enableNonRepudiationChecks];
if (ISSUER.startsWith('http://127.0.0.1:')) rules.push(oidc.allowInsecureRequests);
const provider = await oidc.discovery(
  new URL(ISSUER), CLIENT_ID, CLIENT_SECRET, undefined, { execute: rules },
);
const guard = new SessionGuard(await connect(REDIS_URL), APP);
const store = new RedisStore({ client: await connect(SESSION_REDIS_URL), prefix: 'sessions:' });

const app = express();
app.use((req, res, next) => { res.set('Cache-Control', 'no-store'); next(); });
const sessions = session({
  name: 'shop', secret: SESSION_SECRET, store, resave: RESAVE === '1', saveUninitialized: false,
  cookie: { sameSite: 'lax' },
});
// Without the store it is as unknown as without the markers whether the user is signed in.
app.use((req, res, next) => sessions(req, res, (cause) => {
  next(cause && new RevocationUnknown('the session store did not answer', { cause }));
}));

// After the session middleware, before everything that uses the session. A session from before this
// was installed has no login: it ends too.
app.use(async (req, res, next) => {
  const { user } = req.session;
  if (user === undefined) return next();
  if (remembered(req.session).login_at !== undefined && !(await guard.isRevoked(req.session))) return next();
  await promisify(req.session.destroy).call(req.session);
  res.clearCookie('shop').status(401);
  if (req.accepts('json', 'html') === 'json') return res.json({ error: 'session_ended' });
  return res.send(`<p>Your session was ended by your provider.</p>${SIGN_IN}`);
});

app.get('/', ({ session: { user } }, res) => {
  res.send(user === undefined ? SIGN_IN : 'You are signed in.');
});

app.get('/me', ({ session }, res) => {
  const { user } = session;
  if (user === undefined) return res.status(401).json({ error: 'not_signed_in' });
  const { iss, sub, sid, login_at } = remembered(session);
  return res.json({ user, iss, sub, sid, login_at });
});

app.get('/login', async (req, res) => {
  const [pkceCodeVerifier, state] = [oidc.randomPKCECodeVerifier(), oidc.randomState()];
  const challenge = await oidc.calculatePKCECodeChallenge(pkceCodeVerifier);
  req.session.login = { pkceCodeVerifier, expectedState: state };
  await promisify(req.session.save).call(req.session);
  const parameters = {
    redirect_uri: `${HERE}/callback`, scope: 'openid profile', state,
    code_challenge: challenge, code_challenge_method: 'S256',
  };
  res.redirect(303, oidc.buildAuthorizationUrl(provider, parameters).href);
});

app.get('/callback', async (req, res) => {
  const checks = { ...req.session.login, idTokenExpected: true };
  const address = new URL(req.originalUrl, HERE);
  const tokens = await oidc.authorizationCodeGrant(provider, address, checks);
  await promisify(req.session.regenerate).call(req.session);
  remember(req.session, tokens.claims());
  req.session.user = tokens.claims().name ?? tokens.claims().sub;
  await promisify(req.session.save).call(req.session);
  res.redirect(303, '/');
});

app.post('/cart', express.text(), (req, res) => {
  if (req.body) req.session.cart = req.body;
  res.json({ cart: req.session.cart ?? null });
});

// A session that could not be read or checked stays: its user has not signed out.
app.use((error, req, res, next) => {
  const isUnknown = error instanceof RevocationUnknown;
  if (!isUnknown && req.path !== '/callback') return next(error); // a fault of this app: 500
  console.error(`${req.path}: ${error.message}`);
  if (isUnknown) return res.status(503).json({ error: 'temporarily_unavailable' });
  return res.status(400).send(`The sign-in did not work.${SIGN_IN}`);
});

app.listen(PORT, '127.0.0.1', () => console.log(`shop: ${HERE}`));
