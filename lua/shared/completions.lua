--@include clock
--@include keys
--@include records
-- The log of finishes: one entry per finish; the rollout notes which, so that deletion and audit find them.
local function log_completion(rollout)
  local entry = redis.call("XADD", key("completed"), "*", "rollout", rollout.id, "status", rollout.status,
    "mode", rollout.mode or "", "group", rollout.group or "", "start", rollout.start, "end", now_text)
  change(rollout, "done", rollout.done and (rollout.done .. "," .. entry) or entry)
end
