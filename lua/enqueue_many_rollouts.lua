--[[
Create rollouts at the tails of their queues, all of them or none.
KEYS[1] meta            meta hash of the namespace
ARGV[1] now             seconds since the epoch as text; "" reads the server's clock
ARGV[2..] rollouts      one run of arguments per rollout, see shared/creation.lua
Returns per rollout {start_time, resources_id} when it was created, else the stored record, see shared/replies.lua.
Errors: INVALID_REQUEST, SCHEMA_MISMATCH.
]]
--@include creation
--@include health
--@include replies
local given = ARGV[1]
local failure = open(given, "refusable")
if failure then
  return failure
end
settle_due(SETTLE_FEW)

local items, seen, at = {}, {}, 2
while at <= #ARGV do
  local item
  item, at = parse_rollout(at)
  item.exists, failure = check_rollout(item)
  if not failure and seen[item.id] and seen[item.id] ~= item.digest then
    failure = redis.error_reply("INVALID_REQUEST rollout_id: " .. item.id .. " is given twice for different tasks")
  end
  if failure then
    return failure
  end
  seen[item.id] = item.digest
  items[#items + 1] = item
end

local replies, created = {}, {}
for i, item in ipairs(items) do
  if item.exists or created[item.id] then
    replies[i] = rollout_reply(item.id)
  else
    local rollout = create_rollout(item, "queuing")
    enlist(rollout)
    write(rollout)
    log_event(rollout, nil, "enqueued")
    created[item.id] = true
    replies[i] = { now_text, rollout.resources or "" }
  end
end
return replies
