// What a file of `gfocal export MODEL --static 1` finds on a picture, by OpenVINO's C++ library, which reads ONNX.
// For detectors that look at squares (`"kind": "square"` in the file's resize rule) of a multiple of 32 pixels; other
// files are refused, since boxes of an image that was resized by another rule would be wrong.
#include <algorithm>
#include <cstring>
#include <fstream>
#include <iostream>
#include <openvino/openvino.hpp>
#include "resize.hpp"

// What the file takes, (1, side, side, 3), if it wants images resized as this program does it, and suppresses itself.
ov::Shape checked(const ov::Model& model) {
    if (!model.has_rt_info("framework", "gfocal")) throw std::runtime_error("this is no .onnx of `gfocal export`");
    const auto about = model.get_rt_info<std::string>("framework", "gfocal");  // JSON; this looks for two things in it
    const auto takes = model.input("images").get_partial_shape();
    if (takes.is_dynamic() || takes[0] != 1)
        throw std::runtime_error("the file takes " + takes.to_string() + ": export it with --static 1");
    const auto begin = std::min(about.find("\"resize\": {"), about.size());
    const auto rule = about.substr(begin, about.find('}', begin) - begin), side = takes[1].to_string();
    const auto known = "\"resize\": {\"kind\": \"square\", \"size\": " + side + ", ";
    if (rule.compare(0, known.size(), known) != 0 || takes[1] != takes[2] || rule.find("8 bits") == rule.npos)
        throw std::runtime_error("this program resizes to squares of the file's size, and the file has " + rule + "}");
    if (about.find("\"nms\": \"in\"") == about.npos)
        throw std::runtime_error("this program leaves suppression to the file: export it with --nms in");
    return takes.to_shape();
}

int main(int argc, char** argv) try {
    if (argc != 3) throw std::runtime_error("usage: detect MODEL.onnx PICTURE.ppm");
    ov::Core core;
    const auto graph = core.read_model(argv[1]);
    const auto shape = checked(*graph);
    // In float32: processors with bfloat16 would be faster, and a little off.
    auto model = core.compile_model(graph, "CPU", ov::hint::inference_precision(ov::element::f32));

    // The simplest of image files; with OpenCV: cv::imread, then cv::cvtColor to RGB.
    std::ifstream file(argv[2], std::ios::binary);
    std::string kind;
    size_t width = 0, height = 0, most = 0;
    file >> kind >> width >> height >> most;
    std::vector<uint8_t> pixels(width * height * 3);
    if (kind != "P6" || most != 255 || !file.get() || !file.read(reinterpret_cast<char*>(pixels.data()), pixels.size()))
        throw std::runtime_error(std::string(argv[2]) + " is no PPM file of 8 bits (P6)");

    auto request = model.create_infer_request();
    const auto input = gfocal::resize(pixels, height, width, shape[1], shape[2]);
    std::memcpy(request.get_tensor("images").data<uint8_t>(), input.data(), input.size());
    auto* sizes = request.get_tensor("sizes").data<int64_t>();
    sizes[0] = shape[1], sizes[1] = shape[2];
    request.infer();

    const auto count = request.get_tensor("count").data<int64_t>()[0];
    const auto* labels = request.get_tensor("labels").data<int64_t>();
    const auto* scores = request.get_tensor("scores").data<float>();
    const auto* boxes = request.get_tensor("boxes").data<float>();
    const auto& out = graph->outputs();  // boxes of some detectors say nothing of their edges (`dirac`)
    const bool sure = std::any_of(out.begin(), out.end(), [](auto& o) { return o.get_names().count("edge_std") > 0; });
    const auto* spread = sure ? request.get_tensor("edge_std").data<float>() : nullptr;
    const float factor[2] = {float(width) / shape[2], float(height) / shape[1]};  // back to the picture's pixels
    for (int64_t i = 0; i < count; ++i) {
        std::cout << labels[i] << ' ' << scores[i];
        for (int edge = 0; edge < 4; ++edge) {  // left, top, right, bottom
            std::cout << ' ' << boxes[4 * i + edge] * factor[edge % 2];
            if (sure) std::cout << ' ' << spread[4 * i + edge] * factor[edge % 2];
        }
        std::cout << '\n';
    }
} catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << '\n';
    return 1;
}
