--[[
Look at rollouts, each in one atomic step, and mend what their own records tell.
KEYS[1] meta            meta hash of the namespace
KEYS[2..] spans         streams of their spans, in the same order; none on a Cluster
ARGV[1] now             seconds since the epoch as text; "" reads the server's clock
ARGV[2] repair          "1" = mend what can be mended, "" = only look
ARGV[3] token           operation token
ARGV[4..] items         per rollout its id, and the prefix of the sets of its span ids; on a Cluster instead of it what
                        audit_spans has seen
Returns {looked, findings, rollouts}: how many of the rollouts were looked at before it was enough for one script;
findings, see shared/findings.lua; per rollout that exists {id, attempts, spans, queue, how it waits}: "live" and "void"
lie in the list of that queue, "delayed" waits for its retry, "" is none of that.
Errors: SCHEMA_MISMATCH.
]]
--@include attempts
--@include audit_attempts
--@include audit_deadline
--@include audit_finish
--@include audit_places
--@include audit_spans
--@include audit_waiting
--@include clock
--@include findings
--@include keys
--@include rollouts
--@include span_facts
--@include span_removal
--@include status
--@include tokens
local spans = KEYS
local given, repair, token = ARGV[1], ARGV[2], ARGV[3]
local items = ARGV
local failure = open(given, repair == "1" and "always" or "read")
if failure then
  return failure
end
local MOST_ATTEMPTS = 500
begin_findings(repair, token)

local function is_complete(rollout)
  local known = QUEUED[rollout.status] or ACTIVE[rollout.status] or FINISHED[rollout.status]
  if known and tonumber(rollout.number or "") and tonumber(rollout.start or "") then
    return true
  end
  find("record", rollout.id, "has no known status, no number or no start")
  return false
end

local function waiting(rollout)
  local lists = rollout.queued and not redis.call("ZSCORE", key("delayed"), rollout.id)
  if QUEUED[rollout.status] and not lists then
    return "delayed"
  end
  return rollout.queued and (QUEUED[rollout.status] and "live" or "void") or ""
end

local function look_at(rollout, stream, spans_seen)
  if redis.call("EXISTS", key("task", rollout.id)) == 0 then
    find("record", rollout.id, "has no task")
  end
  check_places(rollout)
  local attempt_ids = check_attempts(rollout)
  local latest = read_attempt(rollout, rollout.latest)
  if not latest or tonumber(latest.start or "") then
    check_deadline(rollout, latest)
  end
  check_finish(rollout)
  check_waiting(rollout)
  local facts, drop = spans_seen, nil
  if stream then
    facts = span_facts(stream, spans_seen, attempt_ids, rollout.stored or "0", "")
    drop = function()
      remove_spans(stream, spans_seen, attempt_ids)
    end
  end
  local stored = check_spans(rollout, attempt_ids, facts, drop)
  return { rollout.id, #attempt_ids, stored, queue_name(rollout), waiting(rollout) }
end

local looked, attempts, seen = 0, 0, {}
for i = 4, #items, 2 do
  local rollout = read_rollout(items[i])
  if not rollout then
    check_remains(items[i])
  elseif is_complete(rollout) then
    seen[#seen + 1] = look_at(rollout, spans[2 + looked], items[i + 1])
    attempts = attempts + seen[#seen][2]
  end
  looked = looked + 1
  if attempts >= MOST_ATTEMPTS then
    break
  end
end
return { looked, end_findings(token), seen }
