--[[
A worker's heartbeat; creates the worker on first mention.
KEYS[1] meta            meta hash of the namespace
ARGV[1] now             seconds since the epoch as text; "" reads the server's clock
ARGV[2] worker_id       the worker
ARGV[3] stats           heartbeat stats as JSON; "" leaves them
Returns the worker, see shared/replies.lua.
Errors: SCHEMA_MISMATCH.
]]
--@include clock
--@include keys
--@include records
--@include replies
--@include workers
local given, worker_id, stats = ARGV[1], ARGV[2], ARGV[3]
local failure = open(given, "always")
if failure then
  return failure
end
local worker = open_worker(worker_id)
change(worker, "beat", now_text)
write(worker)
if stats ~= "" then
  redis.call("SET", key("worker_stats", worker_id), stats)
end
return worker_reply(worker_id)
