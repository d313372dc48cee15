--[[
The second of three steps that store spans of one attempt on a Cluster: append those that are new, in their own slot.
KEYS[1] spans           stream of the rollout's spans
KEYS[2] span_ids        prefix of the sets of its span ids
KEYS[3] deleted         what tells that the rollout is being deleted
KEYS[4] rewards         last rewards of the rollout's attempts
KEYS[5] answer          where the answer is kept for a call that is sent again
ARGV[1] number          creation number of the rollout
ARGV[2] attempt_id      the attempt
ARGV[3] after           number behind which the new spans are numbered; "" when they keep those that they have
ARGV[4] kept            "1" when they are kept, "0" when the attempt's spans were evicted, see shared/noting.lua
ARGV[5..] items         the spans, see shared/appending.lua
Returns {stored, count, reward, reward_number}: per span its number as text, "" for a duplicate; how many were new; and
the last reward of the attempt, "" if none of these spans has one.
Errors: ROLLOUT_NOT_FOUND.
]]
--@include appending
--@include numbers
--@include spans
local spans, span_ids, deleted, rewards, answer = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local number, attempt_id, after, kept = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4]
local items = ARGV
stop_if_moving(span_ids)
local earlier = redis.call("GET", answer)
if earlier then
  local count, reward, reward_number, numbers = string.match(earlier, "(.*);(.*);(.*);(.*)")
  local stored = {}
  for each in string.gmatch(numbers, "([^,]*),") do
    stored[#stored + 1] = each
  end
  return { stored, tonumber(count), reward, reward_number }
end
if tonumber(redis.call("GET", deleted) or "0") >= number then
  return redis.error_reply("ROLLOUT_NOT_FOUND The rollout is being deleted")
end

-- A reward is kept here too, for a call may be broken off before it tells of it; then the next one does that has it.
local noted = redis.call("HGET", rewards, attempt_id) or "0,"
local best_number, best = string.match(noted, "(%d+),(.*)")
local has_rewards = false
for i = 5, #items, 4 do
  has_rewards = has_rewards or items[i + 2] ~= ""
end
local function number_of(chosen, reward)
  if after ~= "" then
    after = successor(after)
    chosen = after
  end
  if reward ~= "" and not is_greater(best_number, chosen) then
    best_number, best = chosen, reward
  end
  return chosen
end
local stored, count_new = append_new(spans, span_ids, attempt_id, items, 5, number_of, kept == "1")
if best_number .. "," .. best ~= noted then
  redis.call("HSET", rewards, attempt_id, best_number .. "," .. best)
end
local told = has_rewards and best or ""
if count_new > 0 then
  local parts = { count_new, told, best_number, table.concat(stored, ",") .. "," }
  redis.call("SET", answer, table.concat(parts, ";"), "EX", TOKEN_SECONDS)
end
return { stored, count_new, told, best_number }
