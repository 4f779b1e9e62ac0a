// The check of docs/contract.md: is this session dead? Needs node:crypto and a client of `redis`.

import { createHash } from 'node:crypto';

const META_LIFE_MS = 60_000; // max_session_age changes only with the receiver's settings

// Nobody knows whether the session is dead: answer 503 and keep it.
export class RevocationUnknown extends Error {}

export const h = (first, second) =>
  createHash('sha256').update(`${first}\n${second}`).digest().subarray(0, 16).toString('base64url');

export function appKeys(app) {
  if (!/^[a-z0-9][a-z0-9_-]{0,62}$/.test(app)) throw new TypeError("not a relying app's name");
  const prefix = `bcl:v1:{${app}}:`;
  return {
    sid: (iss, sid) => `${prefix}sid:${h(iss, sid)}`,
    sub: (iss, sub) => `${prefix}sub:${h(iss, sub)}`,
    all: (iss) => `${prefix}all:${h(iss, '')}`,
    jti: (iss, jti, sid, sub) => `${prefix}jti:${h(iss, [jti, sid ?? '', sub ?? ''].join('\n'))}`,
    events: `${prefix}events`,
    feed: `${prefix}feed`,
    meta: `${prefix}meta`,
  };
}

// Store in the app's session which login it belongs to. At the login only, with the claims of
// the verified ID token: those of a refresh would bring an ended session back to life.
export function remember(session, { iss, sub, sid, iat }) {
  const login_at = typeof iat === 'number' ? Math.floor(iat) : NaN;
  const login = { iss, sub: sub ?? null, sid: sid ?? null, login_at };
  check(login);
  Object.assign(session, login);
}

function check({ iss, sub, sid, login_at }) {
  // Lone surrogates have no UTF-8: all of them would share one key.
  const isText = (value) => typeof value === 'string' && value.isWellFormed();
  const named = isText(iss) && iss !== '' && [sid, sub].every((one) => one == null || isText(one));
  if (!named || !Number.isSafeInteger(login_at)) {
    throw new TypeError('the session does not say whose it is: call remember() at the login');
  }
}

export const markerKeys = (keys, { iss, sid, sub }) => [
  keys.all(iss),
  ...(sid == null ? [] : [keys.sid(iss, sid)]),
  ...(sub == null ? [] : [keys.sub(iss, sub)]),
];

const wholeNumber = (text) => (/^-?[0-9]{1,18}$/.test(text) ? Number(text) : NaN);

// 'revoked', 'expired' or 'alive', by the markers' values (null: no such key).
export function decide({ login_at }, markers, { maxSessionAge, now }) {
  const cutoffs = markers.filter((one) => one !== null).map(wholeNumber);
  if (cutoffs.some((cutoff) => login_at <= cutoff)) return 'revoked';
  if (cutoffs.some(Number.isNaN)) throw new RevocationUnknown('a marker is not a number');
  return login_at + maxSessionAge < now ? 'expired' : 'alive';
}

export class SessionGuard {
  #keys;
  #maxSessionAge;
  #readAt = -Infinity;

  constructor(redis, app, { timeout = 500, clock = Date.now } = {}) {
    this.#keys = appKeys(app);
    Object.assign(this, { redis, timeout, clock });
  }

  // Whether the session that `remember` filled is dead. Throws RevocationUnknown.
  async isRevoked(session) {
    check(session);
    const markers = await this.#inTime(this.#ask(markerKeys(this.#keys, session)));
    const now = this.clock() / 1000;
    return decide(session, markers, { maxSessionAge: this.#maxSessionAge, now }) !== 'alive';
  }

  // One round trip: the client sends both commands together.
  async #ask(keys) {
    const asksMeta = performance.now() - this.#readAt > META_LIFE_MS;
    const [markers, age] = await Promise.all([
      this.redis.mGet(keys),
      asksMeta ? this.redis.hGet(this.#keys.meta, 'max_session_age') : undefined,
    ]);
    if (asksMeta) {
      const seconds = wholeNumber(age ?? '');
      if (Number.isNaN(seconds)) {
        throw new RevocationUnknown(`no receiver has written ${this.#keys.meta}`);
      }
      this.#maxSessionAge = seconds;
      this.#readAt = performance.now();
    }
    return markers;
  }

  async #inTime(answer) {
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(reject, this.timeout, new Error('no answer in time'));
    });
    try {
      return await Promise.race([answer, late]);
    } catch (cause) {
      if (cause instanceof RevocationUnknown) throw cause;
      throw new RevocationUnknown('Redis does not say whether the session is dead', { cause });
    } finally {
      clearTimeout(timer);
    }
  }
}
