--[[
Remove finished rollouts with all that belongs to them.
KEYS[1] meta            meta hash of the namespace
KEYS[2..] spans         streams of their spans, in the same order
ARGV[1] now             seconds since the epoch as text; "" reads the server's clock
ARGV[2] token           operation token
ARGV[3..] items         per rollout: its id, prefix of the sets of its span ids, and the completion that must be its
                        last; "" = any
Returns the ids of those that were removed, in the order given.
Errors: SCHEMA_MISMATCH.
]]
--@include attempts
--@include clock
--@include health
--@include keys
--@include queue
--@include records
--@include repeats
--@include rollouts
--@include span_removal
--@include status
--@include workers
local spans = KEYS
local given, token = ARGV[1], ARGV[2]
local items = ARGV
local failure = open(given, "always")
if failure then
  return failure
end
local deleted = {}
local answer = answered(token)
if answer then
  for id in string.gmatch(answer, "[^,]+") do
    deleted[#deleted + 1] = id
  end
  return deleted
end
settle_due(SETTLE_FEW)

local function delete_attempt(rollout, attempt_id, span_ids)
  local attempt = read_attempt(rollout, attempt_id)
  local worker = attempt and LIVE[attempt.status] and attempt.worker and read(key("worker", attempt.worker))
  if worker and worker.attempt == attempt_id and worker.rollout == rollout.id then
    set_worker(worker, UNKNOWN)
    write(worker)
  end
  local name = rollout.id .. ":" .. attempt_id
  redis.call("DEL", key("attempt", name), key("attempt_metadata", name))
  remove_span_ids(span_ids, attempt_id)
end

local function delete_rollout(rollout, stream, span_ids)
  local id = rollout.id
  local attempts = redis.call("LRANGE", key("attempts", id), 0, -1)
  for _, attempt_id in ipairs(attempts) do
    delete_attempt(rollout, attempt_id, span_ids)
  end
  for entry in string.gmatch(rollout.done or "", "[^,]+") do
    redis.call("XDEL", key("completed"), entry)
  end
  if not rollout.digest and tonumber(now_text) - tonumber(rollout.start) < TOKEN_SECONDS then
    remember(id, rollout.start .. "," .. (rollout.resources or "")) -- the call that made it may come again
  end
  unlist(rollout)
  for _, index in ipairs({ key("rollouts"), key("status", rollout.status), key("deadlines") }) do
    redis.call("ZREM", index, id)
  end
  if rollout.group then
    redis.call("ZREM", key("group", rollout.group), id)
  end
  redis.call("HINCRBY", key("stats"), "attempts", 0 - #attempts) -- a negated 0 would be sent as -0, which is refused
  redis.call("HINCRBY", key("stats"), "spans", 0 - tonumber(rollout.stored or "0"))
  redis.call("DEL", key("rollout", id), key("task", id), key("metadata", id), key("attempts", id), stream)
end

for i = 3, #items, 3 do
  local rollout = read_rollout(items[i])
  local last = rollout and string.match(rollout.done or "", "[^,]+$")
  if rollout and FINISHED[rollout.status] and (items[i + 2] == "" or items[i + 2] == last) then
    delete_rollout(rollout, spans[2 + (i - 3) / 3], items[i + 1])
    deleted[#deleted + 1] = items[i]
  end
end
remember(token, table.concat(deleted, ","))
return deleted
