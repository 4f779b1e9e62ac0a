// express-openid-connect as its documentation sets it up for back-channel logout: stateful
// sessions in Redis by connect-redis, and the logouts in the same store.
import express from 'express';
import { RedisStore } from 'connect-redis';
import oidc from 'express-openid-connect';
import { createClient } from 'redis';

const { PORT, REDIS_URL, ISSUER, CLIENT_ID } = process.env;

const client = createClient({ url: REDIS_URL });
await client.connect();

const app = express();
app.use(
  oidc.auth({
    issuerBaseURL: ISSUER,
    clientID: CLIENT_ID,
    baseURL: `http://127.0.0.1:${PORT}`,
    secret: 'a secret that is long enough for cookies',
    authRequired: false,
    idpLogout: false,
    session: { store: new RedisStore({ client }) },
    backchannelLogout: true,
  }),
);
app.listen(Number(PORT), '127.0.0.1');
