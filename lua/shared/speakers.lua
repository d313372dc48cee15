--@include attempts
--@include health
--@include rollouts
-- The attempt that spans are of, after a few others were settled: never those that the call speaks for.
--   call  comma-separated rollouts of the whole call
-- Returns its rollout and itself; or nil, nil and an error reply.
local function speaker(rollout_id, attempt_id, call)
  settle_due(SETTLE_FEW, call)
  local rollout = read_rollout(rollout_id)
  if not rollout then
    return nil, nil, not_found(rollout_id)
  end
  local attempt = read_attempt(rollout, attempt_id)
  return rollout, attempt, not attempt and attempt_not_found(attempt_id) or nil
end
