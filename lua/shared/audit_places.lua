--@include findings
--@include keys
--@include status
-- The indexes of a rollout: of all, of each status, and of its group.
local function check_statuses(id, status, number)
  for _, statuses in ipairs({ QUEUED, ACTIVE, FINISHED }) do
    for each in pairs(statuses) do
      check_member("status_index", "status:" .. each, id, each == status and number or nil)
    end
  end
end

local function check_places(rollout)
  local id, number = rollout.id, rollout.number
  check_member("status_index", "rollouts", id, number)
  check_statuses(id, rollout.status, number)
  if rollout.group then
    check_member("status_index", "group:" .. rollout.group, id, number)
  end
  if redis.call("ZCOUNT", key("rollouts"), number, number) > 1 then
    find("record", id, "shares its creation number " .. number)
  end
end

-- A rollout without a record. With its task left it may be worth more than its entries are, so they stay.
local function check_remains(id)
  if redis.call("EXISTS", key("task", id)) == 1 then
    if redis.call("ZSCORE", key("rollouts"), id) then
      find("record", id, "has a task but no record")
    end
    return
  end
  check_member("status_index", "rollouts", id)
  check_statuses(id)
  check_member("deadline", "deadlines", id)
  check_member("queue", "delayed", id)
end
