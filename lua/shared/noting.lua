--@include keys
--@include numbers
--@include records
--@include signs
--@include status
-- What new spans make of their attempt and its rollout.
local function note_reward(attempt, reward, number)
  if reward ~= "" and not (attempt.reward and is_greater(attempt.reward_number, number)) then
    change(attempt, "reward", reward)
    change(attempt, "reward_number", number)
  end
end

local function note_new_spans(rollout, attempt, count_new)
  redis.call("HINCRBY", key("stats"), "spans", count_new)
  heartbeat(rollout, attempt)
  revive(rollout, attempt, ATTEMPT_AFTER_SPAN[attempt.status], "span")
end
