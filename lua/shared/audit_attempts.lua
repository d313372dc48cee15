--@include attempt_lists
--@include attempts
--@include audit_attempt
--@include findings
--@include keys
--@include records
-- The attempts of a rollout: listed in order, the last one known as the latest, and those that do not count counted.
local function check_attempts(rollout)
  local id = rollout.id
  local ids, last, uncounted, losses = ids_of_attempts(id, rollout.latest), nil, 0, 0
  local is_listed = redis.call("EXISTS", key("attempts", id)) == 1
  for number, attempt_id in ipairs(ids) do
    local attempt = read_attempt(rollout, attempt_id)
    if not attempt then
      find("attempts", id, "has attempt " .. attempt_id .. ", which has no record")
    else
      check_attempt(id .. ":" .. attempt_id, attempt, number, is_listed)
      uncounted = uncounted + (attempt.uncounted and 1 or 0)
      losses = losses + (attempt.uncounted == "lost" and 1 or 0)
      last = attempt_id
    end
  end
  local function check_count(field, true_one)
    if tonumber(rollout[field] or "0") ~= true_one then
      find("attempts", id, "counts " .. (rollout[field] or "0") .. " " .. field .. ", in truth " .. true_one, function()
        change(rollout, field, true_one > 0 and tostring(true_one) or nil)
        write(rollout)
      end)
    end
  end
  check_count("uncounted", uncounted)
  check_count("losses", losses)
  if rollout.latest ~= ids[#ids] then
    find("attempts", id, "has " .. (rollout.latest or "none") .. " as its latest attempt, its list ends otherwise",
      ids[#ids] == last and function()
        change(rollout, "latest", last)
        write(rollout)
      end or nil)
  end
  return ids
end
