--[[
Cancel those of the given rollouts that are unfinished and meet the conditions.
KEYS[1] meta            meta hash of the namespace
ARGV[1] now             seconds since the epoch as text; "" reads the server's clock
ARGV[2] token           operation token
ARGV[3] group           group that they must have; "" = any
ARGV[4] statuses        comma-separated statuses that they must have; "*" = any
ARGV[5..] rollout_ids   the rollouts
Returns the ids of those that were cancelled, in the order given.
Errors: SCHEMA_MISMATCH.
]]
--@include attempts
--@include clock
--@include deadlines
--@include health
--@include logs
--@include records
--@include repeats
--@include rollouts
--@include status
local given, token, group, statuses = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local rollout_ids = ARGV
local failure = open(given, "always")
if failure then
  return failure
end
local cancelled = {}
local answer = answered(token)
if answer then
  for id in string.gmatch(answer, "[^,]+") do
    cancelled[#cancelled + 1] = id
  end
  return cancelled
end
settle_due(SETTLE_FEW)

for i = 5, #rollout_ids do
  local rollout = read_rollout(rollout_ids[i])
  local wanted = rollout and not FINISHED[rollout.status] and (group == "" or rollout.group == group)
  if wanted and (statuses == "*" or string.find("," .. statuses .. ",", "," .. rollout.status .. ",", 1, true)) then
    local attempt = read_attempt(rollout, rollout.latest)
    move(rollout, CANCELLED, 0)
    log_event(rollout, attempt, "cancelled")
    write(rollout)
    index_deadline(rollout, attempt)
    cancelled[#cancelled + 1] = rollout.id
  end
end
remember(token, table.concat(cancelled, ","))
return cancelled
