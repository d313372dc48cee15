--@include attempts
--@include clock
--@include keys
--@include queue
--@include records
--@include repeats
--@include status
--@include workers
-- Deleting a rollout from the control plane.

-- Whether it may go: it has finished.
--   last  the completion that must be its last; "" = any
local function is_deletable(rollout, last)
  return rollout and FINISHED[rollout.status]
    and (last == "" or last == string.match(rollout.done or "", "[^,]+$"))
end

local function delete_attempt(rollout, attempt_id)
  local attempt = read_attempt(rollout, attempt_id)
  local worker = attempt and LIVE[attempt.status] and attempt.worker and read(key("worker", attempt.worker))
  if worker and worker.attempt == attempt_id and worker.rollout == rollout.id then
    set_worker(worker, UNKNOWN)
    write(worker)
  end
  local name = rollout.id .. ":" .. attempt_id
  redis.call("DEL", key("attempt", name), key("attempt_metadata", name))
end

-- Remove all of it but its spans.
local function delete_rollout(rollout, attempt_ids)
  local id = rollout.id
  for _, attempt_id in ipairs(attempt_ids) do
    delete_attempt(rollout, attempt_id)
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
  redis.call("HINCRBY", META, "amended", 1)
  redis.call("HINCRBY", key("stats"), "attempts", 0 - #attempt_ids) -- a negated 0 would be sent as -0, and refused
  redis.call("HINCRBY", key("stats"), "spans", 0 - tonumber(rollout.stored or "0"))
  redis.call("DEL", key("rollout", id), key("task", id), key("metadata", id), key("attempts", id))
end
