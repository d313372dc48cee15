-- Commands for many values at once, in as few calls as Lua's stack allows.
local MOST_VALUES = 4000

local function append(values, first, second)
  values[#values + 1] = first
  values[#values + 1] = second
end

-- Send a command with these values at its end, an even number of them at a time; nothing without values. Returns the
-- sum of the answers that are numbers.
local function send_many(command, values)
  local sum = 0
  for from = 1, #values, MOST_VALUES do
    local call = { unpack(command) }
    for i = from, math.min(from + MOST_VALUES - 1, #values) do
      call[#call + 1] = values[i]
    end
    sum = sum + (tonumber(redis.call(unpack(call))) or 0)
  end
  return sum
end
