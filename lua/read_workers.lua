--[[
Read workers.
KEYS[1] meta            meta hash of the namespace
ARGV[1..] worker_ids    the workers
Returns per worker its record, see shared/replies.lua; "" when it is unknown.
Errors: none.
]]
--@include replies
local worker_ids = ARGV
local replies = {}
for i = 1, #worker_ids do
  replies[i] = worker_reply(worker_ids[i])
end
return replies
