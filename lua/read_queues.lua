--[[
Read how full the queues are.
KEYS[1] meta            meta hash of the namespace
ARGV[1] now             seconds since the epoch as text; "" reads the server's clock
Returns per queue {name, depth, delayed, seconds that its oldest claimable rollout has waited or ""}.
Errors: SCHEMA_MISMATCH.
]]
--@include clock
--@include keys
--@include status
local given = ARGV[1]
local MOST_VOID = 1000
local failure = open(given, "read")
if failure then
  return failure
end

-- Void entries at the head are passed over; past very many of them the age stays unknown until a claim clears them.
local function waited(name)
  for i = 0, MOST_VOID do
    local id = redis.call("LINDEX", key("queue", name), i)
    if not id then
      return ""
    end
    local rollout = redis.call("HMGET", key("rollout", id), "status", "since", "start")
    if rollout[1] and QUEUED[rollout[1]] then
      return text_of(math.max(0, now - tonumber(rollout[2] or rollout[3])))
    end
  end
  return ""
end

local found = {}
local flat = redis.call("HGETALL", key("stats"))
for i = 1, #flat, 2 do
  local kind, name = string.match(flat[i], "^(%a+):(.+)$")
  if name then
    found[name] = found[name] or { queue = "0", delayed = "0" }
    found[name][kind] = flat[i + 1]
  end
end
local replies = {}
for name, counts in pairs(found) do
  replies[#replies + 1] = { name, counts.queue, counts.delayed, waited(name) }
end
return replies
