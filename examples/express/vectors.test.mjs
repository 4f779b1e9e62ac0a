// The vectors of the contract, which the Python package passes too.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { UnreadableEvent, fromFields, fromJson } from './events.mjs';
import {
  NotServed, RevocationUnknown, appKeys, checkServed, decide, h, markerKeys, noteSid, remember,
  remembered, reportCommands, sidMarkerOf,
} from './guard.mjs';

const file = new URL('../../contract/vectors.json', import.meta.url);
const vectors = JSON.parse(readFileSync(file, 'utf8'));

function each(part, cases, claim) {
  describe(part, () => {
    for (const one of cases) it(one.name, () => claim(one));
  });
}

it('the vectors are of this version', () => assert.equal(vectors.v, 1));

each('h', vectors.h.cases, (one) => assert.equal(h(one.first, one.second), one.h));

each('keys', vectors.keys.cases, ({ app, kind, key, iss, sid, sub, jti }) => {
  const keys = appKeys(app);
  const made = {
    sid: () => keys.sid(iss, sid),
    sub: () => keys.sub(iss, sub),
    all: () => keys.all(iss),
    jti: () => keys.jti(iss, jti, sid, sub),
  };
  assert.equal(kind in made ? made[kind]() : keys[kind], key);
});

each('app names', vectors.app_names.cases, ({ app, valid }) => {
  if (valid) assert.ok(appKeys(app));
  else assert.throws(() => appKeys(app), TypeError);
});

each('remember', vectors.remember.cases, ({ claims, remembered }) => {
  const session = { cart: 3 };
  const clock = () => vectors.remember.now * 1000;
  if (remembered === null) assert.throws(() => remember(session, claims, { clock }), TypeError);
  else remember(session, claims, { clock });
  const stored = remembered && { backchannel_logout: remembered };
  assert.deepEqual(session, { cart: 3, ...stored });
});

describe('the session of the app', () => {
  const claims = { iss: 'https://op.example/', sub: 'alice', sid: 's1', iat: 1795283041 };
  const { iat: login_at, ...names } = claims;
  const login = { ...names, login_at };
  const clock = () => claims.iat * 1000;

  it('keeps its own members of the same names', () => {
    const own = { iss: 'newsletter', sid: 'cart-17', login_at: 'today' };
    const session = { ...own };
    remember(session, claims, { clock });
    assert.deepEqual(session, { ...own, backchannel_logout: login });
    assert.deepEqual(remembered(session), login);
  });

  it('is read where an earlier release stored the login, until the next one', () => {
    const session = { cart: 3, ...login };
    assert.equal(remembered(session).sid, 's1');
    remember(session, { ...claims, sid: 's2' }, { clock });
    assert.deepEqual(session, { cart: 3, backchannel_logout: { ...login, sid: 's2' } });
  });
});

each('readable events', vectors.events.readable, ({ members, fields, json }) => {
  assert.deepEqual(fromJson(json), members);
  assert.deepEqual(fromFields(fields, members.id), members);
});

each('refused events', vectors.events.refused, ({ expect, fields, json }) => {
  const refused = (error) => error instanceof UnreadableEvent && error.reason === expect;
  if (json !== undefined) assert.throws(() => fromJson(json), refused);
  if (fields !== undefined) assert.throws(() => fromFields(fields, '1795283041000-0'), refused);
});

const { app, max_session_age: maxSessionAge } = vectors.decisions;
const valuesIn = (redis, session) =>
  markerKeys(appKeys(app), session).map((key) => redis[key] ?? null);

each('decisions', vectors.decisions.cases, ({ session, redis, now, verdict }) => {
  const markers = valuesIn(redis, session);
  for (const found of [markers, markers.toReversed()]) {
    const sidMarker = sidMarkerOf(session, markers);
    const decided = () => decide(session, found, { sidMarker, maxSessionAge, now });
    if (verdict === 'unreadable') assert.throws(decided, RevocationUnknown);
    else assert.equal(decided(), verdict);
  }
});

each('stories', vectors.stories.cases, ({ steps }) => {
  const [session, redis] = [{}, {}];
  for (const { login, refresh, write, check, now } of steps) {
    if (login) remember(session, login, { clock: () => login.iat * 1000 });
    else if (refresh) assert.ok(refresh.iat > remembered(session).login_at); // not remembered
    else if (write) Object.assign(redis, write);
    else {
      const login = remembered(session);
      const markers = valuesIn(redis, login);
      const sidMarker = sidMarkerOf(login, markers);
      assert.equal(decide(login, markers, { sidMarker, maxSessionAge, now }), check);
    }
  }
});

each('issuers', vectors.issuers.cases, ({ issuers, client_ids, iss, client_id, expect }) => {
  const checked = () => checkServed({ iss, client_id }, { issuers, client_ids }, appKeys(app));
  const isExpected = (error) =>
    error instanceof RevocationUnknown && error instanceof NotServed === (expect === 'not_served');
  if (expect === 'served') checked();
  else assert.throws(checked, isExpected);
});

each('reports', vectors.reports.cases, ({ at, sessions, commands }) => {
  const sids = new Map();
  for (const session of sessions) noteSid(sids, session);
  const parsed = ([[command, key, field, text], expire]) =>
    [[command, key, field, JSON.parse(text)], expire];
  const made = reportCommands(appKeys(vectors.reports.app), at, sids);
  assert.deepEqual(parsed(made), parsed(commands));
});
