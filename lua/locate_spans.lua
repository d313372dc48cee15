--[[
Tell whose spans are meant, and whether they were evicted; each rollout is settled first if its deadline is due.
KEYS[1] meta            meta hash of the namespace
ARGV[1] now             seconds since the epoch as text; "" reads the server's clock
ARGV[2] attempt         an attempt's id, "latest", or "" for all attempts
ARGV[3..] rollout_ids   the rollouts
Returns per rollout {attempt_id, is_evicted}: the attempt that is meant, "" when it has none or all are meant; 1 if
spans that are meant were evicted.
Errors: SCHEMA_MISMATCH.
]]
--@include clock
--@include due
--@include keys
local given, attempt = ARGV[1], ARGV[2]
local rollout_ids = ARGV
local failure = open(given, "read")
if failure then
  return failure
end
local located = {}
for i = 3, #rollout_ids do
  local id = rollout_ids[i]
  settle_if_due(id)
  local latest, evicted = unpack(redis.call("HMGET", key("rollout", id), "latest", "evicted"))
  local meant = attempt == "latest" and (latest or "") or attempt
  local number = evicted and meant ~= "" and redis.call("HGET", key("attempt", id .. ":" .. meant), "number")
  local is_evicted = evicted and (attempt == "" or number and tonumber(number) <= tonumber(evicted))
  located[#located + 1] = { meant, is_evicted and 1 or 0 }
end
return located
