# frozen_string_literal: true

# Microseconds for one frame of a LuxPower stick by lxp-packet.
# Usage: ruby lxp_decode.rb CHECKOUT FRAME-IN-HEX; prints JSON. CHECKOUT may be empty where it is installed.
require 'json'
$LOAD_PATH.unshift(File.join(ARGV[0], 'lib')) unless ARGV[0].to_s.empty?
begin
  require 'lxp/packet'
rescue LoadError
  abort "lxp-packet is not there: no lib/lxp/packet.rb in #{ARGV[0].to_s.empty? ? "Ruby's path" : ARGV[0]}"
end

def microseconds(count = 300)
  batches = Array.new(7) do
    start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    count.times { yield }
    (Process.clock_gettime(Process::CLOCK_MONOTONIC) - start) / count * 1e6
  end
  batches.sort[3]
end

frame = [ARGV[1]].pack('H*')
encode = lambda do
  packet = LXP::Packet::WriteSingle.new
  packet.datalog_serial = 'AB12345678'
  packet.inverter_serial = '1234567890'
  packet.register = 66
  packet.value = 50
  packet.to_bin
end
values = microseconds { LXP::Packet::Parser.parse(frame).to_h }
puts JSON.generate(values: values, encode: microseconds(&encode))
