--[[
Read rollouts with their latest attempts, each settled first if its deadline is due.
KEYS[1] meta            meta hash of the namespace
ARGV[1] now             seconds since the epoch as text; "" reads the server's clock
ARGV[2] which           "finished" = only those, "unfinished" = only whether they are that, "" = all
ARGV[3..] rollout_ids   the rollouts
Returns per id the rollout, see shared/replies.lua; "" when it is unknown. When only some are asked for: 0 for
unfinished ones, and for finished ones "" unless they are asked for.
Errors: SCHEMA_MISMATCH.
]]
--@include clock
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
local replies = {}
for i = 3, #rollout_ids do
  local id = rollout_ids[i]
  settle_if_due(id)
  local status = which ~= "" and redis.call("HGET", key("rollout", id), "status")
  if status and not FINISHED[status] then
    replies[#replies + 1] = 0
  else
    replies[#replies + 1] = which == "unfinished" and "" or rollout_reply(id)
  end
end
return replies
