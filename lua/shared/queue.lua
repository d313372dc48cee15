--@include bulk
--@include clock
--@include keys
--@include records
--@include tokens
-- Entering a queue, and leaving a list. A rollout lies in its list at most once: the flag `queued` is set with the push
-- and cleared with the pop. An entry whose rollout is not queued any more is void; it stays until it is popped, and its
-- rollout may return to it.
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

-- Put rollouts that are new into their lists.
local function enlist_new(rollouts)
  local ids_of = {}
  for _, rollout in ipairs(rollouts) do
    local name = queue_name(rollout)
    ids_of[name] = ids_of[name] or {}
    table.insert(ids_of[name], rollout.id)
    change(rollout, "queued", "1")
  end
  for name, ids in pairs(ids_of) do
    send_many("RPUSH", key("queue", name), ids)
    offer(name, redis.call("HINCRBY", key("stats"), "queue:" .. name, #ids), #ids)
  end
end

local function enter_queue(rollout, delay)
  if delay > 0 then
    unlist(rollout)
    change(rollout, "since", text_of(now + delay))
    redis.call("ZADD", key("delayed"), rollout.since, rollout.id)
    count(rollout, "delayed", 1)
    offer(queue_name(rollout), 1) -- whoever waits claims, finds nothing, and learns when the delay is over
  else
    change(rollout, "since", now_text)
    enlist(rollout)
  end
end
