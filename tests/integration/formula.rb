# Homebrew's words as far as our formula uses them: loads it and tells what it says, or runs its test block.
#   ruby formula.rb FORMULA describe
#   ruby formula.rb FORMULA test BIN VERSION        in the directory of the test
require "json"
require "pathname"

module Language
  module Python
    module Virtualenv; end
  end
end

class Formula
  SAID = { "depends_on" => [], "service" => {} }

  class Service
    def run(words) = SAID["service"]["run"] = words.map(&:to_s)
    def opt_bin = Pathname("/opt/bin")
    def var = Pathname("/var")
    def std_service_path_env = "PATH"
    def method_missing(name, value) = SAID["service"][name.to_s] = value
    def respond_to_missing?(*) = true
  end

  class << self
    def include(mod) = super
    %w[desc homepage url sha256 license].each { |word| define_method(word) { |text| SAID[word] = text } }
    def depends_on(what) = SAID["depends_on"] << (what.is_a?(Hash) ? what.keys.first : what)
    def service(&block) = Service.new.instance_eval(&block)
    def test(&block) = define_method(:run_test, &block)
  end

  def bin = Pathname(ARGV.fetch(2))
  def testpath = Pathname(Dir.pwd)
  def version = ARGV.fetch(3)

  def system(*words) = Kernel.system(*words.map(&:to_s)) || raise("failed: #{words.join(" ")}")

  def shell_output(command, status = 0)
    output = `#{command}`
    raise "#{command}: #{$?.exitstatus} instead of #{status}" unless $?.exitstatus == status

    output
  end

  def assert(truth, what) = truth || raise("not so: #{what}")
  def assert_match(pattern, text) = assert(text.include?(pattern), "#{pattern.inspect} in #{text.inspect}")
  def assert_equal(wanted, found) = assert(wanted == found, "#{found.inspect} is #{wanted.inspect}")
  def assert_path_exists(path) = assert(path.exist?, "#{path} exists")
  def assert_empty(text) = assert(text.empty?, "#{text.inspect} is empty")
end

load File.expand_path(ARGV.fetch(0))
case ARGV.fetch(1)
when "describe" then puts JSON.generate(Formula::SAID)
when "test" then Boot2podman.new.run_test
end
