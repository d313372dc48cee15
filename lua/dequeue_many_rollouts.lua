--[[
Claim the oldest queued rollouts and start one attempt for each.
KEYS[1] meta            meta hash of the namespace
ARGV[1] now             seconds since the epoch as text; "" reads the server's clock
ARGV[2] token           operation token
ARGV[3] call            token of the whole wait that this is one look of; "" when nobody else knows it
ARGV[4] worker_id       claiming worker; "" when anonymous
ARGV[5] lease           seconds as text; "" when there is none
ARGV[6] again           "" when the call is sent for the first time
ARGV[7] queue_count     number of queues
ARGV[8..] wanted        names of the queues, first come first, then one fresh attempt id per rollout wanted
Returns {more, wait, rollouts}: more is 1 when the call should be sent again with another token, because deadlines are
still due or void entries still in the way, and 2 when the whole wait was ended; wait is the seconds, as text, until
something may become claimable by itself, "" when nothing will or something was claimed; rollouts with their attempts,
see shared/replies.lua. A call that wants no rollout answers what its token has claimed before, and bars the token: a
claim under it that arrives later claims nothing. So does one that is sent again and finds nothing, because the first
may still be on its way. What one look has claimed is what the token of the whole wait has claimed.
Errors: SCHEMA_MISMATCH.
]]
--@include attempts
--@include claims
--@include clock
--@include delays
--@include health
--@include keys
--@include logs
--@include records
--@include repeats
--@include replies
--@include status
--@include workers
local given, token, call, worker_id, lease, again = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local queue_count = tonumber(ARGV[7])
local wanted = ARGV
local failure = open(given, "always")
if failure then
  return failure
end
local answer, ended = answered(token), false
if not answer and call ~= "" then
  answer = answered(call)
  ended = answer == ""
end
if answer then
  --@include held_claims
  --@include reconciling
  for i = 8, 7 + queue_count do
    reconcile(wanted[i])
  end
  return { ended and 2 or 0, "", held_claims(answer) }
end
local more = settle_due(SETTLE_MANY)
more = ready_retries(SETTLE_MANY) or more

local next_id, claimed, remembered = 8 + queue_count, {}, {}
-- Returns whether it claimed the last of what is wanted; then the tokens of the queue are right, see leave_queue().
local function claim_from(name)
  local first_id = next_id
  while next_id <= #wanted do
    local attempt_id = wanted[next_id]
    local rollout, unsure = pop_rollout(name)
    more = more or unsure
    if not rollout then
      return false
    end
    if rollout.latest and redis.call("EXISTS", key("attempt", rollout.id .. ":" .. attempt_id)) == 1 then
      -- The fresh id is taken by another call: put the entry back, and let the client come again with other ids.
      redis.call("LPUSH", key("queue", name), rollout.id)
      more = true
      return false
    end
    local attempt = begin_attempt(rollout, attempt_id, worker_id, lease)
    change(rollout, "queued", nil)
    write(rollout)
    log_event(rollout, attempt, "claimed")
    claimed[#claimed + 1], remembered[#remembered + 1] = { rollout, attempt }, rollout.id .. ":" .. attempt_id
    next_id = next_id + 1
  end
  return next_id > first_id
end
for i = 8, 7 + queue_count do
  if not claim_from(wanted[i]) then
    --@include reconciling
    reconcile(wanted[i])
  end
end

local last = claimed[#claimed]
if worker_id ~= "" then
  local worker = open_worker(worker_id)
  change(worker, "dequeue", now_text)
  if last then
    set_worker(worker, NEW_ATTEMPT_WORKER, last[1].id, last[2].id)
  elseif worker.status ~= IDLE and not more then
    set_worker(worker, IDLE)
  end
  write(worker)
end
if last or again ~= "" or #wanted == 7 + queue_count then
  remember(token, table.concat(remembered, ","))
end
if last and call ~= "" then
  remember(call, table.concat(remembered, ","))
end
local replies = {}
for i, claim in ipairs(claimed) do
  replies[i] = begun_reply(claim[1], claim[2])
end
local wait = ""
if not last then
  --@include delays
  wait = next_due()
end
return { more and 1 or 0, wait, replies }
