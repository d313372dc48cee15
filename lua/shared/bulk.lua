-- Commands for many values at once, in as few calls as Lua's stack allows.
local MOST_VALUES = 4000

local function append(values, first, second)
  values[#values + 1] = first
  values[#values + 1] = second
end

-- Send a command for a key with these values, an even number of them at a time; nothing without values. Returns the sum
-- of the answers, which are numbers.
local function send_many(command, name, values)
  local sum, count = 0, #values
  for from = 1, count, MOST_VALUES do
    sum = sum + redis.call(command, name, unpack(values, from, math.min(from + MOST_VALUES - 1, count)))
  end
  return sum
end
