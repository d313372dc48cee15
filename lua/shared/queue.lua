--@include clock
--@include records
-- Queues: a list of ids, a counter of its live entries, wake-up tokens for waiting workers, and delayed retries.
-- A rollout lies in its list at most once: the flag `queued` is set with the push and cleared with the pop. An entry
-- whose rollout is not queued any more is void; it stays until it is popped, and its rollout may return to it.
local function queue_name(rollout)
  return rollout.queue or "default"
end

local function count(rollout, kind, by)
  return redis.call("HINCRBY", key("stats"), kind .. ":" .. queue_name(rollout), by)
end

-- One wake-up token more, but never more than live entries.
local function offer(name, live)
  local tokens = key("wake", name)
  if redis.call("LLEN", tokens) < live then
    redis.call("RPUSH", tokens, "1")
  end
end

-- One live entry less, and no token too many: it would wake somebody in vain.
local function withdraw(rollout)
  local tokens, live = key("wake", queue_name(rollout)), count(rollout, "queue", -1)
  if redis.call("LLEN", tokens) > live then
    redis.call("LPOP", tokens)
  end
end

local function unlist(rollout)
  if rollout.queued then
    redis.call("LREM", key("queue", queue_name(rollout)), 1, rollout.id)
    change(rollout, "queued", nil)
  end
end

-- Put a rollout, not yet counted as live, into its list: at the tail, or with "LPUSH" at the head.
local function enlist(rollout, push)
  if not rollout.queued then
    redis.call(push or "RPUSH", key("queue", queue_name(rollout)), rollout.id)
    change(rollout, "queued", "1")
  end
  offer(queue_name(rollout), count(rollout, "queue", 1))
end

local function enter_queue(rollout, delay)
  if delay > 0 then
    unlist(rollout)
    change(rollout, "since", text_of(now + delay))
    redis.call("ZADD", key("delayed"), rollout.since, rollout.id)
    count(rollout, "delayed", 1)
  else
    change(rollout, "since", now_text)
    enlist(rollout)
  end
end

local function leave_queue(rollout)
  if rollout.queued then
    withdraw(rollout)
  elseif redis.call("ZREM", key("delayed"), rollout.id) == 1 then
    count(rollout, "delayed", -1)
  end
end

-- Move retries whose delay is over to the tails of their queues, at most `limit`.
local function ready_retries(limit)
  local ready = redis.call("ZRANGEBYSCORE", key("delayed"), "-inf", now_text, "LIMIT", 0, limit)
  for _, id in ipairs(ready) do
    redis.call("ZREM", key("delayed"), id)
    local rollout = read(key("rollout", id))
    if rollout then
      rollout.id = id
      count(rollout, "delayed", -1)
      enlist(rollout)
      write(rollout)
    end
  end
  return #ready
end
