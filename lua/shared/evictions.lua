--@include cursors
--@include finishes
--@include keys
-- How far eviction has got along the completion log.

-- Spans came for a rollout that has finished: if eviction is past its finish, it goes back and looks at it again.
local function evict_again(rollout)
  local last, done = last_finish(rollout), redis.call("HGET", META, "evicted")
  if last and done and not is_before(done, last) then
    redis.call("HSET", META, "evicted", string.format("%.0f-0", tonumber(string.match(last, "^%d+")) - 1))
  end
end
