-- Writes one revocation of one relying app atomically.
--
-- KEYS[1]        bcl:v1:{app}:events           stream
-- KEYS[2..n+1]   bcl:v1:{app}:sid|sub|all:...  the n markers, one for each name of the issuer
-- KEYS[n+2]      bcl:v1:{app}:jti:...          only when ARGV[3] > 0
--
-- ARGV[1] cutoff         epoch seconds
-- ARGV[2] marker life    seconds; longer where the app's meta has a larger max_session_age
-- ARGV[3] jti life       milliseconds; 0: the message is not remembered
-- ARGV[4] stream length  entries
-- ARGV[5] stream age     milliseconds
-- ARGV[6] channel        bcl:v1:{app}:feed
-- ARGV[7] n              number of markers, and of events
-- ARGV[8] again          1: this was acknowledged before and may have been lost since
-- then for each event: its JSON, the number of its fields, and the fields (name, value, ...)
--
-- Returns 2 when a marker is new, 1 when all of them were there, and 0 when the message was seen
-- before, or is not lost, and nothing was changed.
--
-- Redis does not roll a script back. Hence: every argument is checked before the first write,
-- and the order is markers, events, jti. An error in the middle leaves a jti unset, so that
-- the sender's retry writes what is missing. Runs on Redis 6.2.

local function integer(index, min)
  local number = tonumber(ARGV[index])
  if not number or number ~= math.floor(number) or number < min then
    error({err = 'ERR bcl argument ' .. index})
  end
  return number
end

local cutoff, life = integer(1, 0), integer(2, 1)
local once_ms = integer(3, 0)
local max_len, max_age_ms = integer(4, 1), integer(5, 1)
local channel, count = ARGV[6], integer(7, 1)
local again = integer(8, 0) == 1
if #KEYS ~= 1 + count + (once_ms > 0 and 1 or 0) then
  return redis.error_reply('ERR bcl number of keys')
end

local events, at = {}, 9
for i = 1, count do
  local json, pairs_ = ARGV[at], integer(at + 1, 2)
  if not json or json:sub(1, 1) ~= '{' or #ARGV < at + 1 + pairs_ then
    return redis.error_reply('ERR bcl event')
  end
  events[i] = {json = json, first = at + 2, last = at + 1 + pairs_}
  at = at + 2 + pairs_
end

local once = once_ms > 0 and KEYS[count + 2]
if again then
  -- Markers, event and jti are written together. The markers may be from another logout of the same
  -- user; while the jti is remembered, it shows whether this one's are there.
  local lost = once and redis.call('EXISTS', once) == 0
  for i = 1, count do
    local old = tonumber(redis.call('GET', KEYS[1 + i]) or '')
    lost = lost or not old or old < cutoff
  end
  if not lost then return 0 end
elseif once and redis.call('EXISTS', once) == 1 then
  return 0
end

-- Another receiver may serve the app with a larger max_session_age, for longer sessions.
local served = redis.pcall('HGET', KEYS[1]:sub(1, -7) .. 'meta', 'max_session_age')
served = type(served) == 'string' and tonumber(served)
if served and served < 1e12 then life = math.max(life, served + MARGIN) end

-- Markers: never a lower cutoff, never a shorter lifetime.
local written, life_ms = 1, string.format('%d', life * 1000)
for i = 1, count do
  local key = KEYS[1 + i]
  if redis.call('SET', key, ARGV[1], 'PX', life_ms, 'NX') then
    written = 2
  else
    local value, ttl = ARGV[1], life * 1000
    local old = redis.call('GET', key)
    local old_cutoff = tonumber(old or '')
    if old_cutoff and old_cutoff > cutoff then value = old end
    local old_ttl = redis.call('PTTL', key)
    if old_ttl == -1 then ttl = nil elseif old_ttl > ttl then ttl = old_ttl end
    if ttl then
      redis.call('SET', key, value, 'PX', string.format('%d', ttl))
    else
      redis.call('SET', key, value)
    end
  end
end

for i = 1, count do
  local event = events[i]
  event.id = redis.call(
    'XADD', KEYS[1], 'MAXLEN', '=', max_len, '*', unpack(ARGV, event.first, event.last)
  )
  -- By age. Of several in one millisecond the first has done it.
  local added_ms = tonumber(event.id:match('^(%d+)-0$'))
  if added_ms then
    redis.call('XTRIM', KEYS[1], 'MINID', '=', string.format('%d', math.max(0, added_ms - max_age_ms)))
  end
end

if once then
  redis.call('SET', once, '1', 'PX', string.format('%d', once_ms))
end

-- The channel is a hint: the stream is the truth, so a failed PUBLISH is ignored.
for i = 1, count do
  local event = events[i]
  redis.pcall('PUBLISH', channel, '{"id":"' .. event.id .. '",' .. event.json:sub(2))
end
return written
