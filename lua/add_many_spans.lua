--[[
Store spans of one attempt; a sign of life of the attempt if any of them is new.
KEYS[1] meta            meta hash of the namespace
KEYS[2] spans           stream of the rollout's spans
KEYS[3] span_ids        prefix of the sets of its span ids
ARGV[1] now             seconds since the epoch as text; "" reads the server's clock
ARGV[2] token           operation token
ARGV[3] rollout_id      the rollout
ARGV[4] attempt_id      the attempt
ARGV[5] renumber        "1" = number new spans with the next numbers of the rollout, "" = as given
ARGV[6] call            comma-separated rollouts of the whole call, which are not settled
ARGV[7..] items         per span: id (64-bit integer as text, or ":" and text), sequence_id, reward or "", payload
Returns per span its sequence_id as text, "" for a duplicate.
Errors: ROLLOUT_NOT_FOUND, ATTEMPT_NOT_FOUND, SCHEMA_MISMATCH.
]]
--@include attempts
--@include clock
--@include health
--@include keys
--@include numbers
--@include records
--@include repeats
--@include rollouts
--@include signs
--@include spans
--@include status
local spans, span_ids = KEYS[2], KEYS[3]
local given, token, rollout_id, attempt_id, renumber, call = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local items = ARGV
local answer = answered(token)
local failure = open(given, answer and "always" or "refusable")
if failure then
  return failure
end
local stored = {}
if answer then
  for number in string.gmatch(answer, "([^,]*),") do
    stored[#stored + 1] = number
  end
  return stored
end
local spared, spared_count = {}, 0
for id in string.gmatch(call, "[^,]+") do
  spared[id], spared_count = true, spared_count + 1
end
settle_due(SETTLE_FEW, spared, spared_count)

local rollout = read_rollout(rollout_id)
if not rollout then
  return not_found(rollout_id)
end
local attempt = read_attempt(rollout, attempt_id)
if not attempt then
  return attempt_not_found(attempt_id)
end

-- Spans of an attempt whose spans were evicted go the same way at once: nobody could read them.
local is_kept = tonumber(attempt.number) > tonumber(rollout.evicted or "0")
local numeric, text, new = {}, {}, {}
for i = 7, #items, 4 do
  local ids = string.sub(items[i], 1, 1) == ":" and text or numeric
  ids[#ids + 1] = items[i]
  new[items[i]] = not is_kept or nil
end
if is_kept then
  claim_span_ids(span_ids .. attempt_id .. ":", numeric, new)
  claim_span_ids(span_ids .. attempt_id .. ":text:", text, new)
end

local count_new = 0
for i = 7, #items, 4 do
  local id, number, reward, payload = items[i], items[i + 1], items[i + 2], items[i + 3]
  if new[id] then
    new[id] = nil
    if renumber == "1" then
      number = next_number(rollout)
    else
      note_number(rollout, number)
    end
    if is_kept then
      redis.call("XADD", spans, "*", "a", attempt_id, "s", number, "d", payload)
    end
    if reward ~= "" and not (attempt.reward and is_greater(attempt.reward_number, number)) then
      change(attempt, "reward", reward)
      change(attempt, "reward_number", number)
    end
    count_new = count_new + 1
    stored[#stored + 1] = number
  else
    stored[#stored + 1] = ""
  end
end
if count_new > 0 and is_kept then
  redis.call("HINCRBY", key("stats"), "spans", count_new)
  change(rollout, "stored", tostring(tonumber(rollout.stored or "0") + count_new))
  if FINISHED[rollout.status] then
    --@include evictions
    evict_again(rollout)
  end
end
if count_new > 0 then
  heartbeat(rollout, attempt)
  revive(rollout, attempt, ATTEMPT_AFTER_SPAN[attempt.status], "span")
  write(attempt)
  write(rollout)
  remember(token, table.concat(stored, ",") .. ",")
end
return stored
