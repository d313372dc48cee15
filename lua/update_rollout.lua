--[[
Replace fields of a rollout.
KEYS[1] meta            meta hash of the namespace
ARGV[1] now             seconds since the epoch as text; "" reads the server's clock
ARGV[2] token           operation token
ARGV[3] rollout_id      the rollout
ARGV[4] status          new status; "" leaves it
ARGV[5] task            new input as JSON; "" leaves it
ARGV[6] metadata        new metadata as JSON; "" leaves it
ARGV[7..] changes       pairs of hash field and value; "" removes the field
Returns the rollout, see shared/replies.lua.
Errors: ROLLOUT_NOT_FOUND, SCHEMA_MISMATCH.
]]
--@include attempts
--@include clock
--@include deadlines
--@include health
--@include keys
--@include logs
--@include records
--@include repeats
--@include replies
--@include rollouts
--@include status
local given, token, rollout_id, status, task, metadata = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local changes = ARGV
local failure = open(given, "always")
if failure then
  return failure
end
local answer = answered(token)
if not answer then
  settle_due(SETTLE_FEW, rollout_id)
end

local rollout = read_rollout(rollout_id)
if not rollout then
  return redis.error_reply("ROLLOUT_NOT_FOUND Item " .. rollout_id .. " does not exist")
elseif answer then
  return rollout_reply(rollout_id)
end
if FINISHED[rollout.status] then
  redis.call("HINCRBY", META, "amended", 1)
end
for i = 7, #changes, 2 do
  change(rollout, changes[i], changes[i + 1] ~= "" and changes[i + 1] or nil)
end
local attempt = read_attempt(rollout, rollout.latest)
if status ~= "" then
  local was = rollout.status
  move(rollout, status, 0)
  if was ~= status then
    log_event(rollout, attempt, "updated")
  end
end
write(rollout)
if task ~= "" then
  redis.call("SET", key("task", rollout_id), task)
end
if metadata ~= "" then
  redis.call("SET", key("metadata", rollout_id), metadata)
end
index_deadline(rollout, attempt)
remember(token, "1")
return rollout_reply(rollout_id)
