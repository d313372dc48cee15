--[[
Replace fields of an attempt; the latest one moves its unfinished rollout along.
KEYS[1] meta            meta hash of the namespace
ARGV[1] now             seconds since the epoch as text; "" reads the server's clock
ARGV[2] token           operation token
ARGV[3] rollout_id      the rollout
ARGV[4] attempt_id      one of its attempts; "latest" = the one with the highest number
ARGV[5] status          new status; "" leaves it
ARGV[6] metadata        new metadata as JSON; "" leaves it
ARGV[7..] changes       pairs of hash field and value; "=" before the value sets the field, "" removes it
Returns the attempt, see shared/replies.lua.
Errors: ROLLOUT_NOT_FOUND, ATTEMPT_NOT_FOUND, SCHEMA_MISMATCH.
]]
--@include attempts
--@include clock
--@include deadlines
--@include ends
--@include health
--@include keys
--@include logs
--@include records
--@include repeats
--@include replies
--@include rollouts
--@include status
--@include workers
local given, token, rollout_id, attempt_id, status, metadata = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
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
  return not_found(rollout_id)
elseif not rollout.latest then
  return redis.error_reply("ATTEMPT_NOT_FOUND No attempts found for rollout " .. rollout_id)
end
local attempt = read_attempt(rollout, answer or (attempt_id == "latest" and rollout.latest) or attempt_id)
if not attempt then
  return attempt_not_found(attempt_id)
elseif answer then
  return attempt_reply(rollout_id, attempt.id, attempt)
end

local worker_given = false
for i = 7, #changes, 2 do
  local field, value = changes[i], changes[i + 1]
  change(attempt, field, value ~= "" and string.sub(value, 2) or nil)
  worker_given = worker_given or (field == "worker" and value ~= "=")
  if field == "beat" then
    change(attempt, "grace_end", nil)
  end
end
local was, rollout_was = attempt.status, rollout.status
if status ~= "" then
  local cause = rollout.status == CANCELLED and CAUSE_IN_CANCELLED[status] or CAUSE_OF_END[status]
  set_attempt_status(rollout, attempt, status, cause)
end
if attempt.id == rollout.latest then
  follow_attempt(rollout, attempt)
end
if status ~= "" or worker_given then
  update_worker_of(rollout, attempt, WORKER_AFTER_ATTEMPT[attempt.status])
end
if attempt.status ~= was or rollout.status ~= rollout_was then
  log_event(rollout, attempt, attempt.cause or "updated")
end
write(attempt)
write(rollout)
if metadata ~= "" then
  redis.call("SET", key("attempt_metadata", rollout_id .. ":" .. attempt.id), metadata)
end
if attempt.id == rollout.latest then
  index_deadline(rollout, attempt)
end
remember(token, attempt.id)
return attempt_reply(rollout_id, attempt.id, attempt)
