-- Lengthens the life of markers, never shortens it.
--
-- KEYS    markers of one app
-- ARGV[1] their life after the cutoff, in seconds
-- ARGV[2] the time, in epoch seconds
--
-- Returns how many now live longer. A key that is no marker is left alone.

local now, extended = tonumber(ARGV[2]), 0
for _, key in ipairs(KEYS) do
  local found = redis.pcall('GET', key)
  local cutoff = type(found) == 'string' and tonumber(found)
  if cutoff then
    local ttl = cutoff + tonumber(ARGV[1]) - now
    local left = redis.call('PTTL', key)
    -- Times are whole seconds: one more or less is the same.
    if left >= 0 and left < ttl * 1000 - 1000 then
      redis.call('SET', key, found, 'PX', string.format('%d', ttl * 1000))
      extended = extended + 1
    end
  end
end
return extended
