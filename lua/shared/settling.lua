--@include attempts
--@include deadlines
--@include expiry
--@include keys
--@include rollouts
--@include status
-- Settling a rollout whose deadline may have passed. Deadlines are lazy: one that comes due is computed anew first.
local function settle(id)
  redis.call("DEL", key("nothing")) -- a read that settles must not be refused when memory is full, see open()
  local rollout = read_rollout(id)
  if not rollout then
    redis.call("ZREM", key("deadlines"), id)
    return
  end
  local attempt = read_attempt(rollout, rollout.latest)
  if attempt and LIVE[attempt.status] then
    expire_if_late(rollout, attempt)
  end
  index_deadline(rollout, attempt)
end
