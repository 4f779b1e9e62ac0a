// Parses an event of docs/contract.md: a message of the channel, or an entry of the stream.

// It may have ended any session: drop all cached answers and query Redis.
export class UnreadableEvent extends Error {
  constructor(reason, what) {
    super(`${reason}: ${what}`);
    this.reason = reason; // 'unknown': from a later release; 'malformed': not an event
  }
}

const isString = (value) => typeof value === 'string';
const isStrings = (value) => Array.isArray(value) && value.every(isString);

const CLAIM = { session: 'sid', user: 'sub', all: 'iss' };
const REQUIRED = {
  iss: isString, cutoff: Number.isSafeInteger, app: isString, source: isString,
  received_at: Number.isFinite,
};
const OPTIONAL = {
  sid: isString, sub: isString, jti: isString, id: isString, client_ids: isStrings,
};
const KNOWN = ['v', 'kind', ...Object.keys(REQUIRED), ...Object.keys(OPTIONAL)];
const IN_JSON = ['v', 'cutoff', 'received_at', 'client_ids', 'revoke_offline_access'];

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    throw new UnreadableEvent('malformed', 'not JSON');
  }
}

export function fromFields(fields, id) {
  const event = { ...fields, id };
  // Before the rest is parsed: another version may encode it differently.
  if (fields.v !== undefined && fields.v !== '1') throw new UnreadableEvent('unknown', 'v');
  for (const name of IN_JSON) if (name in event) event[name] = parsed(event[name]);
  return checked(event);
}

export const fromJson = (text) => checked(parsed(text));

function checked(event) {
  const refuse = (reason, what) => {
    throw new UnreadableEvent(reason, what);
  };
  const isObject = event !== null && typeof event === 'object' && !Array.isArray(event);
  if (!isObject) refuse('malformed', 'not an object');
  if (!('v' in event)) refuse('malformed', 'v');
  if (event.v !== 1) refuse('unknown', 'v');
  if (!('kind' in event)) refuse('malformed', 'kind');
  if (!isString(event.kind) || !Object.hasOwn(CLAIM, event.kind)) refuse('unknown', 'kind');
  for (const [name, fits] of Object.entries({ ...REQUIRED, ...OPTIONAL })) {
    const isRequired = name in REQUIRED || name === CLAIM[event.kind];
    if (name in event ? !fits(event[name]) : isRequired) refuse('malformed', name);
  }
  const members = KNOWN.filter((name) => name in event).map((name) => [name, event[name]]);
  const read = Object.fromEntries(members);
  return event.revoke_offline_access === true ? { ...read, revoke_offline_access: true } : read;
}
