--[[
Read one page of rollouts in order of creation, from the indexes alone; all that is due is settled first.
KEYS[1] meta            meta hash of the namespace
ARGV[1] now             seconds since the epoch as text; "" reads the server's clock
ARGV[2] offset          rollouts to leave out
ARGV[3] limit           most rollouts to return
ARGV[4..] indexes       kinds and names of the disjoint indexes to read, as "rollouts" or "status:running"
Returns {more, total, rollouts}: more is 1 when deadlines are still due and the call should be sent again.
Errors: SCHEMA_MISMATCH.
]]
--@include clock
--@include delays
--@include health
--@include keys
--@include replies
local given, offset, limit = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local indexes = ARGV
local failure = open(given, "read")
if failure then
  return failure
end
if settle_due(SETTLE_MANY) or ready_retries(SETTLE_MANY) then
  return { 1, 0, {} }
end

local function count_up_to(number)
  local sum = 0
  for i = 4, #indexes do
    sum = sum + redis.call("ZCOUNT", key(indexes[i]), "-inf", number)
  end
  return sum
end

-- The creation number up to which exactly `offset` rollouts lie: numbers are unique, so halving finds it.
local total = count_up_to("+inf")
local low, high = 0, tonumber(redis.call("HGET", META, "number") or "0")
while low < high and offset > 0 do
  local middle = math.floor((low + high) / 2)
  if count_up_to(middle) < offset then
    low = middle + 1
  else
    high = middle
  end
end

local found = {}
for i = 4, #indexes do
  local flat = redis.call("ZRANGEBYSCORE", key(indexes[i]), "(" .. low, "+inf", "WITHSCORES", "LIMIT", 0, limit)
  for j = 1, #flat, 2 do
    found[#found + 1] = { flat[j], tonumber(flat[j + 1]) }
  end
end
table.sort(found, function(a, b) return a[2] < b[2] end)
local replies = {}
for i = 1, math.min(limit, #found) do
  replies[i] = rollout_reply(found[i][1])
end
return { 0, total, offset < total and replies or {} }
