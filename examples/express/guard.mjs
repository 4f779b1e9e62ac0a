// Checks whether a session is dead, as in docs/contract.md. Needs a client of the package `redis`.

import { createHash } from 'node:crypto';

const MEMBER = 'backchannel_logout'; // of the app's session
const MAX_AHEAD = 86_400; // seconds; no marker covers a login that is years ahead
const CODE_SECONDS = 60; // the life of an authorization code
const REPORT_EVERY_MS = 60_000;
const HASH_SECONDS = 30 * 86_400;
const MAX_ISSUERS = 8; // in a report, which stays small

// It is unknown whether the session is dead: answer 503 and keep it.
export class RevocationUnknown extends Error {
  name = 'RevocationUnknown';
}

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
    readers: `${prefix}app:readers`,
  };
}

// Stores the login in the app's session, as one member. Call it at the login only, with the claims of
// the verified ID token: those of a refresh would bring an ended session back to life.
export function remember(session, claims, { clock = Date.now } = {}) {
  const { iss, sub, sid, iat, auth_time, aud, azp } = claims;
  const login_at = typeof iat === 'number' ? Math.floor(iat) : NaN;
  const login = { iss, sub: sub ?? null, sid: sid ?? null, login_at };
  check(login);
  if (login_at > clock() / 1000 + MAX_AHEAD) {
    throw new TypeError("the ID token's iat is more than a day ahead: is it in milliseconds?");
  }
  if (Number.isFinite(auth_time)) login.auth_time = Math.floor(auth_time);
  const client = [aud].flat().length === 1 ? [aud].flat()[0] : azp;
  if (typeof client === 'string') login.client_id = client;
  const old = ['iss', 'sub', 'sid', 'login_at']; // of earlier releases, which store all four at the top
  if (!(MEMBER in session) && old.every((name) => name in session)) {
    for (const name of old) delete session[name];
  }
  session[MEMBER] = login;
}

// The stored login; earlier releases stored it at the top of the session.
export const remembered = (session) => session[MEMBER] ?? session;

function check({ iss, sub, sid, login_at }) {
  // Lone surrogates have no UTF-8 encoding: all of them would share one key.
  const isText = (value) => typeof value === 'string' && value.isWellFormed();
  const named = isText(iss) && iss !== '' && [sid, sub].every((one) => one == null || isText(one));
  if (!named || !Number.isSafeInteger(login_at)) {
    throw new TypeError('the session has no login: call remember() at the login');
  }
}

export const markerKeys = (keys, { iss, sid, sub }) => [
  keys.all(iss),
  ...(sid == null ? [] : [keys.sid(iss, sid)]),
  ...(sub == null ? [] : [keys.sub(iss, sub)]),
];

const wholeNumber = (text) => (/^-?[0-9]{1,18}$/.test(text) ? Number(text) : NaN);

// The marker of the session's own id, from the values of `markerKeys` in their order.
export const sidMarkerOf = ({ sid }, markers) => (sid == null ? null : markers[1]);

// 'revoked', 'expired' or 'alive', from the markers' values (null: no such key) in any order.
export function decide({ login_at, auth_time }, markers, { sidMarker, maxSessionAge, now }) {
  const cutoffs = markers.filter((one) => one !== null).map(wholeNumber);
  if (cutoffs.some((cutoff) => login_at <= cutoff)) return 'revoked';
  // The code was issued before the logout of this session, and redeemed after it.
  const ended = wholeNumber(sidMarker ?? '');
  if (auth_time != null && auth_time <= ended && login_at <= ended + CODE_SECONDS) return 'revoked';
  if (cutoffs.some(Number.isNaN)) throw new RevocationUnknown('a marker is not a number');
  const isTooOld = login_at + maxSessionAge < now || login_at > now + MAX_AHEAD;
  return isTooOld ? 'expired' : 'alive';
}

// Throws for a session whose issuer or client the receiver does not serve for this app: no logout
// would ever reach it. Both are fields of `meta`; receivers of earlier releases write neither, and
// sessions of earlier releases have no `client_id`.
export function checkServed({ iss, client_id }, { issuers, client_ids }, { meta }) {
  const checkName = (field, names, name) => {
    if (names == null || name == null) return;
    let list;
    try {
      list = JSON.parse(names);
    } catch {
      list = undefined;
    }
    if (!Array.isArray(list) || !list.every((item) => typeof item === 'string')) {
      throw new RevocationUnknown(`${meta} holds ${field} that are not a list of names`);
    }
    if (!list.includes(name)) {
      throw new NotServed(`the session is of ${name}, and ${meta} is of ${list.join(', ')}`);
    }
  };
  checkName('issuers', issuers, iss);
  checkName('client_ids', client_ids, client_id);
}

// The name is another app's, or the receiver's settings lack the issuer or client under this app.
export class NotServed extends RevocationUnknown {
  name = 'NotServed';
}

// Notes for the report whether sessions of an issuer have a `sid`: some providers send it only in the
// logout token, and then no session would end.
export function noteSid(sids, { iss, sid }) {
  if (sids.has(iss) || sids.size < MAX_ISSUERS) sids.set(iss, sids.get(iss) || sid != null);
}

// The report of an app that queries Redis at each check, at most once a minute; `at` in epoch seconds.
export function reportCommands({ readers }, at, sids) {
  const report = { v: 1, kind: 'asks', at };
  if (sids.size > 0) report.sid = Object.fromEntries(sids);
  return [
    ['HSET', readers, 'asks', JSON.stringify(report)],
    ['EXPIRE', readers, HASH_SECONDS],
  ];
}

export class SessionGuard {
  #keys;
  #sids = new Map();
  #reportAt = -Infinity;

  constructor(redis, app, { timeout = 500, clock = Date.now } = {}) {
    this.#keys = appKeys(app);
    Object.assign(this, { redis, timeout, clock });
  }

  // Whether the session that `remember` filled is dead. Throws RevocationUnknown.
  async isRevoked(session) {
    const login = remembered(session);
    check(login);
    noteSid(this.#sids, login);
    const replies = this.#query(markerKeys(this.#keys, login));
    const [markers, age, issuers, client_ids] = await this.#inTime(replies);
    const maxSessionAge = wholeNumber(age ?? '');
    if (Number.isNaN(maxSessionAge)) {
      throw new RevocationUnknown(`no receiver has written ${this.#keys.meta}`);
    }
    checkServed(login, { issuers, client_ids }, this.#keys);
    const now = this.clock() / 1000;
    const sidMarker = sidMarkerOf(login, markers);
    return decide(login, markers, { sidMarker, maxSessionAge, now }) !== 'alive';
  }

  // One round trip: the client sends all commands together. `meta` is read with each check: a Redis
  // that returned without its data has lost markers too.
  #query(keys) {
    const { meta } = this.#keys;
    const replies = Promise.all([
      this.redis.mGet(keys),
      this.redis.hGet(meta, 'max_session_age'),
      this.redis.hGet(meta, 'issuers'),
      this.redis.hGet(meta, 'client_ids'),
    ]);
    if (performance.now() >= this.#reportAt) this.#report();
    return replies;
  }

  // Not awaited, and no check fails with it: without write permission operators see that this app
  // does not report, and everything else works.
  #report() {
    this.#reportAt = performance.now() + REPORT_EVERY_MS;
    for (const command of reportCommands(this.#keys, this.clock() / 1000, this.#sids)) {
      this.redis.sendCommand(command.map(String)).catch((error) => {
        if (/^NOPERM/.test(error.message)) this.#reportAt = Infinity;
      });
    }
  }

  async #inTime(replies) {
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(reject, this.timeout, new Error('no answer in time'));
    });
    try {
      return await Promise.race([replies, late]);
    } catch (cause) {
      if (cause instanceof RevocationUnknown) throw cause;
      throw new RevocationUnknown('Redis did not say whether the session is dead', { cause });
    } finally {
      clearTimeout(timer);
    }
  }
}
