--[[
Read the last finish of rollouts.
KEYS[1] meta            meta hash of the namespace
ARGV[1..] rollout_ids   the rollouts
Returns per rollout {entry, start, end}: its last entry in the completion log, when the rollout was created and when it
finished; an empty list when it is unknown or has not finished.
Errors: none.
]]
--@include finishes
--@include rollouts
--@include status
local rollout_ids = ARGV
local finishes = {}
for i, id in ipairs(rollout_ids) do
  local rollout = read_rollout(id)
  local entry = rollout and FINISHED[rollout.status] and last_finish(rollout)
  local ended = entry and logged(rollout, entry, "end")
  finishes[i] = ended and { entry, rollout.start, ended } or {}
end
return finishes
