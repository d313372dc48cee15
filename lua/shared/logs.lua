--@include clock
--@include keys
--@include records
-- What is logged of rollouts: their finishes, which is the truth, and their transitions, of which the latest are kept.

-- One entry per finish; the rollout notes which, so that deletion and audit find them.
local function log_completion(rollout)
  local entry = redis.call("XADD", key("completed"), "*", "rollout", rollout.id, "status", rollout.status,
    "mode", rollout.mode or "", "group", rollout.group or "", "start", rollout.start, "end", now_text)
  change(rollout, "done", rollout.done and (rollout.done .. "," .. entry) or entry)
end

local function log_event(rollout, attempt, cause)
  redis.call("XADD", key("events"), "MAXLEN", "~", EVENTS_KEPT, "*", "time", now_text, "rollout", rollout.id,
    "attempt", attempt and attempt.id or "", "status", rollout.status,
    "attempt_status", attempt and attempt.status or "", "cause", cause)
end
