--[[
Create rollouts at the tails of their queues, all of them or none.
KEYS[1] meta            meta hash of the namespace
ARGV[1] now             seconds since the epoch as text; "" reads the server's clock
ARGV[2] limits          limits of the queues, see shared/admission.lua
ARGV[3..] rollouts      one run of arguments per rollout, see shared/requests.lua
Returns per rollout {start_time, resources_id} when it was created, else the stored record, see shared/replies.lua.
Errors: INVALID_REQUEST, QUEUE_FULL, SCHEMA_MISMATCH.
]]
--@include clock
--@include creation
--@include health
--@include logs
--@include queue
--@include records
--@include requests
--@include status
local given, limits = ARGV[1], ARGV[2]
local items, new_ids, invalid = parse_rollouts(3)
local failure = open(given, next(new_ids) and "refusable" or "always")
if failure then
  return failure
end
settle_due(SETTLE_FEW)
if not invalid and limits ~= "" then
  --@include admission
  invalid = check_room(limits, items, new_ids)
end
if invalid then
  return invalid
end

local new, is_new = {}, {}
for _, item in ipairs(items) do
  if new_ids[item.id] then -- of two with the same id the first
    new_ids[item.id] = nil
    new[#new + 1] = item
    is_new[item] = true
  end
end
if #new > 0 then
  local rollouts = create_rollouts(new, NEW_ROLLOUT)
  enlist_new(rollouts)
  for _, rollout in ipairs(rollouts) do
    write(rollout)
    log_event(rollout, nil, "enqueued")
  end
end
local replies = {}
for i, item in ipairs(items) do
  if is_new[item] then
    replies[i] = { now_text, item.fields.resources or "" }
  elseif item.deleted then
    replies[i] = { string.match(item.deleted, "([^,]*),(.*)") }
  else
    --@include replies
    replies[i] = rollout_reply(item.id)
  end
end
return replies
