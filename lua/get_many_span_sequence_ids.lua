--[[
Hand out the next sequence numbers of rollouts' spans.
KEYS[1] meta            meta hash of the namespace
ARGV[1] now             seconds since the epoch as text; "" reads the server's clock
ARGV[2] token           operation token
ARGV[3..] rollout_ids   one rollout per number wanted; may repeat
Returns the numbers as text, in the order given.
Errors: ROLLOUT_NOT_FOUND, SCHEMA_MISMATCH.
]]
--@include clock
--@include keys
--@include numbers
--@include records
--@include repeats
local given, token = ARGV[1], ARGV[2]
local rollout_ids = ARGV
local failure = open(given, "always")
if failure then
  return failure
end
local numbers = {}
local answer = answered(token)
if answer then
  for number in string.gmatch(answer, "[^,]+") do
    numbers[#numbers + 1] = number
  end
  return numbers
end
local rollouts = {}
for i = 3, #rollout_ids do
  local id = rollout_ids[i]
  rollouts[id] = rollouts[id] or read(key("rollout", id))
  if not rollouts[id] then
    return redis.error_reply("ROLLOUT_NOT_FOUND Rollout " .. id .. " not found")
  end
end
for i = 3, #rollout_ids do
  numbers[#numbers + 1] = next_number(rollouts[rollout_ids[i]])
end
for _, rollout in pairs(rollouts) do
  write(rollout)
end
remember(token, table.concat(numbers, ","))
return numbers
