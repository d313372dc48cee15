--[[
Read rollouts with their latest attempts, as they are when what is due has been settled.
KEYS[1] meta            meta hash of the namespace
ARGV[1] now             seconds since the epoch as text; "" reads the server's clock
ARGV[2] which           "finished" = only those, "" = all
ARGV[3..] rollout_ids   the rollouts
Returns per id the rollout, see shared/replies.lua; "" when it is unknown, 0 when only finished ones are asked for and
it is not.
Errors: SCHEMA_MISMATCH.
]]
--@include clock
--@include due
--@include health
--@include keys
--@include replies
--@include status
local given, which = ARGV[1], ARGV[2]
local rollout_ids = ARGV
local failure = open(given, "read")
if failure then
  return failure
end
local is_more_due = settle_first(SETTLE_FEW, "")
local replies = {}
for i = 3, #rollout_ids do
  local id = rollout_ids[i]
  if is_more_due then
    settle_if_due(id)
  end
  local status = which ~= "" and redis.call("HGET", key("rollout", id), "status")
  if status and not FINISHED[status] then
    replies[#replies + 1] = 0
  else
    replies[#replies + 1] = rollout_reply(id)
  end
end
return replies
