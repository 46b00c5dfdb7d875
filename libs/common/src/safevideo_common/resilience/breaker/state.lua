-- A circuit breaker that all processes share: one hash, one script a decision, the time of Redis.
--
--          failures >= limit and >= half of the calls,
--          of two processes or of the only one
--   CLOSED ──────────────────────────────────────────▶ OPEN  while now < open_until
--     ▲                                              │  ▲
--     │ a probe succeeds                   time over │  │ a probe fails
--     └────────────────────────── HALF-OPEN ◀────────┘  │
--                                 `permits` leases ─────┘
--
-- KEYS[1]  epoch: new with each transition; reports of another epoch are ignored      open_until: missing while closed
--          signal: new when an operator has changed an override in the database
--          f:END, s:END: failures and successes of a part of the window, which count until END
--          x:PROCESS, p:PROCESS: this process had a failure, is running, until the value      l:TOKEN: lease of a probe
-- ARGV     operation, process, epoch that the caller knows, new random epoch, seconds of the window, limit, seconds to
--          stay open (jittered), permits; report: successes, failures, seconds for which the caller knows it open;
--          acquire: token, seconds; settle: token, 'success' | 'failure' | 'release'; close, reset, signal, read: nothing
-- Returns  epoch, milliseconds to stay open (0: half-open, -1: closed), leases, failures, successes, processes, signal,
--          1 if the lease was granted
local now = $NOW
local MAX_OPEN, MAX_LEASE, PROCESS_SECONDS, PARTS = 300, 180, 10, 10
local key, operation, process, caller_epoch, new_epoch = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local window, limit, open_for, permits = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local lives = {f = window, s = window, x = window, p = PROCESS_SECONDS, l = MAX_LEASE}
local values, counts, granted = {}, {f = 0, s = 0, x = 0, p = 0, l = 0}, 0

local function set(name, value)  -- nil removes it; %.6f, since Lua would write a time with 14 digits only
  values[name] = type(value) == 'number' and string.format('%.6f', value) or value
  if value then redis.call('HSET', key, name, values[name]) else redis.call('HDEL', key, name) end
end
local function mark(kind, id, seconds)
  if not values[kind .. ':' .. id] then counts[kind] = counts[kind] + 1 end
  set(kind .. ':' .. id, now + seconds)
end
local function add(kind, number)  -- to the current part of the window
  local part = window / PARTS
  local name = string.format('%s:%.3f', kind, math.floor(now / part) * part + window)
  set(name, tostring((values[name] or 0) + number))
  counts[kind] = counts[kind] + number
end
local function forget(kinds)
  for name in pairs(values) do
    if string.find(name, '^[' .. kinds .. ']:') then set(name, nil) end
  end
  for kind in string.gmatch(kinds, '%l') do counts[kind] = 0 end
end
local function change(open_until)  -- nil closes it
  forget('fsxl')
  set('epoch', new_epoch)
  set('open_until', open_until)
end

local fields = redis.call('HGETALL', key)
for i = 1, #fields, 2 do
  local name, value = fields[i], fields[i + 1]
  local kind, id = string.match(name, '^(%l):(.*)$')
  local is_count = kind == 'f' or kind == 's'
  local ends = tonumber(is_count and id or value)
  if not kind or (now < ends and ends <= now + lives[kind]) then
    values[name] = value
    if kind then counts[kind] = counts[kind] + (is_count and value or 1) end
  else
    set(name, nil)  -- it has ended, or the clock was set back
  end
end
if values.open_until and tonumber(values.open_until) > now + MAX_OPEN then set('open_until', now + MAX_OPEN) end

local epoch, open_until = values.epoch or '', tonumber(values.open_until)
if operation == 'report' then
  local successes, failures, known_open = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
  mark('p', process, PROCESS_SECONDS)
  if epoch == '' and known_open > 0 then
    change(now + math.min(MAX_OPEN, known_open))  -- the hash was lost
  elseif epoch == caller_epoch and not open_until then
    if failures > 0 then add('f', failures) mark('x', process, window) end
    if successes > 0 and counts.f > 0 then add('s', successes) end
    local is_common = counts.x >= math.min(2, counts.p)
    if failures > 0 and counts.f >= math.max(limit, counts.s) and is_common then change(now + open_for) end
  end
elseif operation == 'acquire' and open_until and open_until <= now and counts.l < permits then
  mark('l', ARGV[9], math.min(MAX_LEASE, tonumber(ARGV[10])))
  granted = 1
elseif operation == 'settle' and values['l:' .. ARGV[9]] then
  set('l:' .. ARGV[9], nil)
  counts.l = counts.l - 1
  if ARGV[10] ~= 'release' then change(ARGV[10] == 'failure' and now + open_for or nil) end
elseif operation == 'close' then
  change(nil)
elseif operation == 'reset' then
  forget('fsx')
end
if operation == 'signal' or not values.signal then set('signal', new_epoch) end
redis.call('EXPIRE', key, 3600)
local open_ms = values.open_until and math.ceil(math.max(0, values.open_until - now) * 1000) or -1
return {values.epoch or '', open_ms, counts.l, counts.f, counts.s, counts.p, values.signal, granted}
