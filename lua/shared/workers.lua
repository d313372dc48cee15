--@include clock
--@include keys
--@include records
--@include status
-- Workers. Records are created on first mention and ordered by it.
local UNREAD = true

-- The record of a worker. Only its status is read; what it holds counts as different from whatever it is changed to.
local function open_worker(id)
  local name = key("worker", id)
  local status = redis.call("HGET", name, "status")
  if status or redis.call("EXISTS", name) == 1 then
    return stored_as(name, { status = status or nil, rollout = UNREAD, attempt = UNREAD })
  end
  --@include new_records
  redis.call("ZADD", key("workers"), redis.call("HINCRBY", META, "number", 1), id)
  return fresh(name, { status = UNKNOWN })
end

-- Give a worker a status; only a busy one holds an attempt.
local function set_worker(worker, status, rollout_id, attempt_id)
  local is_busy = status == BUSY
  change(worker, "status", status)
  change(worker, "rollout", is_busy and rollout_id or nil)
  change(worker, "attempt", is_busy and attempt_id or nil)
  change(worker, is_busy and "busy" or "idle", now_text)
end

-- What an attempt makes of the worker that is written in it; "" and nil name no worker.
local function update_worker_of(rollout, attempt, worker_status)
  if attempt.worker and attempt.worker ~= "" then
    local worker = open_worker(attempt.worker)
    set_worker(worker, worker_status, rollout.id, attempt.id)
    write(worker)
  end
end
