--@include clock
--@include keys
-- The log of transitions, of which the latest are kept.
local function log_event(rollout, attempt, cause)
  redis.call("XADD", key("events"), "MAXLEN", "~", EVENTS_KEPT, "*", "time", now_text, "rollout", rollout.id,
    "attempt", attempt and attempt.id or "", "status", rollout.status,
    "attempt_status", attempt and attempt.status or "", "cause", cause)
end
