--[[
One heartbeat for a worker and the attempts that it holds.
KEYS[1] meta            meta hash of the namespace
ARGV[1] now             seconds since the epoch as text; "" reads the server's clock
ARGV[2] worker_id       the worker
ARGV[3] stats           heartbeat stats as JSON; "" leaves them
ARGV[4..] attempts      pairs of rollout and attempt id
Returns for each attempt current, revived, replaced, cancelled, finished or unknown.
Errors: SCHEMA_MISMATCH.
]]
--@include attempts
--@include clock
--@include health
--@include keys
--@include records
--@include rollouts
--@include signs
--@include status
--@include workers
local given, worker_id, stats = ARGV[1], ARGV[2], ARGV[3]
local attempts = ARGV
local failure = open(given, "always")
if failure then
  return failure
end
local spared = {}
for i = 4, #attempts, 2 do
  spared[#spared + 1] = attempts[i]
end
settle_due(SETTLE_FEW, table.concat(spared, ","))

local worker = open_worker(worker_id)
change(worker, "beat", now_text)
write(worker)
if stats ~= "" then
  redis.call("SET", key("worker_stats", worker_id), stats)
end

local function renewed(rollout, attempt)
  if not attempt then
    return "unknown"
  elseif rollout.latest ~= attempt.id or (attempt.worker and attempt.worker ~= "" and attempt.worker ~= worker_id) then
    return "replaced"
  elseif FINISHED[rollout.status] then
    return rollout.status == CANCELLED and "cancelled" or "finished"
  elseif LIVE[attempt.status] then
    heartbeat(rollout, attempt)
    return "current"
  elseif attempt.status == SILENT and QUEUED[rollout.status] then
    heartbeat(rollout, attempt)
    revive(rollout, attempt, REVIVED, "renewed")
    return "revived"
  end
  return "finished"
end

local states = {}
for i = 4, #attempts, 2 do
  local rollout = read_rollout(attempts[i])
  local attempt = rollout and read_attempt(rollout, attempts[i + 1])
  states[#states + 1] = renewed(rollout, attempt)
  if attempt then
    write(attempt)
    write(rollout)
  end
end
return states
