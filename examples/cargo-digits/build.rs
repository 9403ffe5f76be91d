fn main() -> Result<(), egret_build::Error> {
    egret_build::Model::new("../../fixtures/models/simple_cnn.onnx").name("digits").compile()
}
