--@include clock
--@include deadlines
--@include keys
--@include new_records
--@include records
--@include rollouts
--@include status
-- Attempts: reading them, and starting the next one.
local function read_attempt(rollout, id)
  local attempt = id and read(key("attempt", rollout.id .. ":" .. id))
  if attempt then
    attempt.id = id
  end
  return attempt
end

local function attempt_not_found(id)
  return redis.error_reply("ATTEMPT_NOT_FOUND Attempt " .. id .. " not found")
end

-- Start the next attempt of a rollout and move the rollout to where a fresh attempt puts it.
local function begin_attempt(rollout, id, worker_id, lease)
  local number = 1
  if rollout.latest then
    --@include attempt_lists
    number = list_attempt(rollout.id, rollout.latest, id)
  end
  local attempt = fresh(key("attempt", rollout.id .. ":" .. id), {
    id = id,
    number = tostring(number),
    status = NEW_ATTEMPT,
    start = now_text,
    worker = worker_id ~= "" and worker_id or nil,
    lease = lease ~= "" and lease or nil,
  })
  change(rollout, "latest", id)
  redis.call("HINCRBY", key("stats"), "attempts", 1)
  move(rollout, NEW_ATTEMPT_ROLLOUT, 0)
  write(attempt)
  index_deadline(rollout, attempt)
  return attempt
end
