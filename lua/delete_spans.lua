--[[
Remove the spans of a rollout that is to be deleted, on a Cluster, and let none be appended for it any more.
KEYS[1] spans           stream of the rollout's spans
KEYS[2] span_ids        prefix of the sets of its span ids
KEYS[3] rewards         last rewards of its attempts
KEYS[4] deleted         what tells that the rollout is being deleted
ARGV[1] number          its creation number
ARGV[2..] attempt_ids   its attempts
Returns 0.
Errors: none.
]]
--@include span_removal
--@include spans
local spans, span_ids, rewards, deleted = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local number = ARGV[1]
local attempt_ids = ARGV
stop_if_moving(span_ids)
redis.call("DEL", rewards) -- first of all: after it Redis lets the rest pass when memory is full
local ids = {}
for i = 2, #attempt_ids do
  ids[#ids + 1] = attempt_ids[i]
end
remove_spans(spans, span_ids, ids)
redis.call("SET", deleted, number, "EX", TOKEN_SECONDS)
return 0
