--[[
Drop the spans of attempts that are marked as evicted. In the slot of the spans; attempts that began later keep theirs.
KEYS[1] spans           stream of the rollout's spans
KEYS[2] span_ids        prefix of the sets of its span ids
ARGV[1..] attempt_ids   the attempts
Returns 0.
Errors: none.
]]
--@include span_removal
--@include spans
local spans, span_ids = KEYS[1], KEYS[2]
local attempt_ids = ARGV
local READ_AT_ONCE = 100
stop_if_moving(span_ids)
local evicted = {}
for _, id in ipairs(attempt_ids) do
  evicted[id] = true
  remove_span_ids(span_ids, id)
end

local function is_evicted(entry)
  return entry ~= nil and evicted[entry[2][2]]
end

-- Nothing is added for an evicted attempt, so its spans come before those of later ones; mostly there are no others.
if is_evicted(redis.call("XREVRANGE", spans, "+", "-", "COUNT", 1)[1]) then
  redis.call("DEL", spans)
end
local entries = redis.call("XRANGE", spans, "-", "+", "COUNT", READ_AT_ONCE)
while is_evicted(entries[1]) do
  for _, entry in ipairs(entries) do
    if is_evicted(entry) then
      redis.call("XDEL", spans, entry[1])
    end
  end
  entries = redis.call("XRANGE", spans, "-", "+", "COUNT", READ_AT_ONCE)
end
return 0
