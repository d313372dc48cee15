--@include clock
--@include completions
--@include findings
--@include finishes
--@include records
--@include status
-- Every finish is in the completion log once, the last one with the status and the end that the rollout has.
local function check_finish(rollout)
  local id, kept, lost = rollout.id, {}, 0
  for entry in string.gmatch(rollout.done or "", "[^,]+") do
    if logged(rollout, entry, "status") then
      kept[#kept + 1] = entry
    else
      lost = lost + 1
    end
  end
  local function forget_lost()
    change(rollout, "done", #kept > 0 and table.concat(kept, ",") or nil)
    write(rollout)
  end
  local finished = FINISHED[rollout.status]
  if finished and logged(rollout, last_finish(rollout), "status") ~= rollout.status then
    find("completion", id, "is " .. rollout.status .. ", which the completion log does not have", function()
      forget_lost()
      log_completion(rollout)
      change(rollout, "end", rollout["end"] or now_text)
      write(rollout)
    end)
  elseif lost > 0 then
    find("completion", id, "has finished before, which the completion log has no more", forget_lost)
  end
  if finished and not rollout["end"] or not finished and rollout["end"] then
    find("completion", id, "is " .. rollout.status .. (finished and " without an end" or " and has an end"), function()
      change(rollout, "end", finished and logged(rollout, last_finish(rollout), "end") or nil)
      write(rollout)
    end)
  end
end
