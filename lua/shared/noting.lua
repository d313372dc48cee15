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

-- Whether the attempt's spans are kept: not once those of its rollout were evicted, for nobody could read them.
local function are_kept(rollout, attempt)
  return tonumber(attempt.number) > tonumber(rollout.evicted or "0")
end

-- So many spans were new, and so many of them were appended. What was appended while the rest was evicted goes with the
-- next eviction, as does what comes after the finish.
local function note_new_spans(rollout, attempt, count_new, count_appended)
  if count_appended > 0 and are_kept(rollout, attempt) then
    redis.call("HINCRBY", key("stats"), "spans", count_appended)
    change(rollout, "stored", tostring(tonumber(rollout.stored or "0") + count_appended))
  end
  if count_appended > 0 and FINISHED[rollout.status] then
    --@include evictions
    evict_again(rollout)
  end
  heartbeat(rollout, attempt)
  revive(rollout, attempt, ATTEMPT_AFTER_SPAN[attempt.status], "span")
end
