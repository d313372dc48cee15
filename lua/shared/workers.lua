--@include clock
--@include records
-- Workers. Records are created on first mention and ordered by it.
local function open_worker(id)
  local worker = read(key("worker", id))
  if not worker then
    worker = fresh(key("worker", id))
    change(worker, "status", "unknown")
    redis.call("ZADD", key("workers"), redis.call("HINCRBY", META, "number", 1), id)
  end
  return worker
end

local function set_worker(worker, status, rollout_id, attempt_id)
  change(worker, "status", status)
  change(worker, "rollout", rollout_id)
  change(worker, "attempt", attempt_id)
  change(worker, status == "busy" and "busy" or "idle", now_text)
end

-- What an attempt makes of the worker that is written in it; "" and nil name no worker.
local function update_worker_of(rollout, attempt, worker_status)
  if attempt.worker and attempt.worker ~= "" then
    local worker = open_worker(attempt.worker)
    if worker_status == "busy" then
      set_worker(worker, "busy", rollout.id, attempt.id)
    else
      set_worker(worker, worker_status, nil, nil)
    end
    write(worker)
  end
end
